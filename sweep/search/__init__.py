"""Search: asking a sampler for cells and telling it how they ended, and stopping cells that fall behind.

    study (Optuna) --asks--> journal (durable) --> cells of the plan --> packs, trained as any other
          ^                      ^                                             |
          +------tells-----------+---------- ends and histories of cells ------+

What was asked, told and decided is in the journal, in order, before it takes effect. A study that goes on
after a kill replays the journal; nothing is asked twice and no decision is taken again.
"""
