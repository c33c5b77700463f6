"""Malformed spaces: a good one, what is done to it, and what the message has to say."""

from dataclasses import dataclass

GOOD = """\
name: small
base:
  model: mlp
  dataset: mnist-5k
  phases:
    - {lr: 0.1, until: 100}
    - {lr: 0.1, until: 200, k: 10}
grids:
  - name: main
    axes:
      alpha_dom: [1, 2, .inf]
      lr: [0.1, 0.2]
  - name: sgd
    axes:
      method: {choices: {SGD: {}}}
reports:
  - {kind: heatmap, name: heat, x: alpha_dom, y: lr, grids: [main]}
"""


@dataclass(frozen=True)
class Malformed:
    """`old` in the good space becomes `new`; every text of `says` must be in the message."""

    old: str
    new: str
    says: tuple[str, ...]


MALFORMED: dict[str, Malformed] = {
    "unknown field": Malformed(
        "base:\n", "base:\n  refresh_evry: 5\n", ("base", "refresh_evry", "Did you mean 'refresh_every'")
    ),
    "unknown top field": Malformed("grids:", "gridz:", ("gridz", "Did you mean 'grids'")),
    "missing field": Malformed("  dataset: mnist-5k\n", "", ("base.dataset", "missing")),
    "missing name": Malformed("name: small\n", "", ("name", "missing")),
    "bad space name": Malformed("name: small", "name: Small Space", ("name", "'Small Space'")),
    "unknown model": Malformed("model: mlp", "model: mpl", ("base.model", "'mpl'", "Did you mean 'mlp'")),
    "unknown dataset": Malformed("mnist-5k", "minst-5k", ("base.dataset", "Did you mean 'mnist-5k'")),
    "unknown loss": Malformed("base:\n", "base:\n  loss: mes\n", ("base.loss", "Did you mean 'mse'")),
    "unknown option": Malformed(
        "model: mlp", "model: {name: mlp, activaton: tanh}", ("base.model", "Did you mean 'activation'")
    ),
    "bad option": Malformed(
        "model: mlp", "model: {name: mlp, activation: swish}", ("base.model", "'swish'", "'relu'")
    ),
    "option of a wrong type": Malformed(
        "model: mlp", "model: {name: mlp, widths: wide}", ("base.model", "widths", "'wide'")
    ),
    "unknown optimizer": Malformed(
        "lr: 0.1, until: 100",
        "lr: 0.1, until: 100, optimizer: sdg",
        ("phases.0.optimizer", "Did you mean 'sgd'"),
    ),
    "bad option of an optimizer": Malformed(
        "lr: 0.1, until: 100",
        "lr: 0.1, until: 100, optimizer: {name: adam, beta1: 1}",
        ("phases.0.optimizer", "optimizer.beta1", "1", "below 1"),
    ),
    "condition without its last step": Malformed(
        "lr: 0.1, until: 100",
        "lr: 0.1, until: {chi_above: 0.9}",
        ("phases.0.until", "at_most: missing"),
    ),
    "threshold that is never passed": Malformed(
        "lr: 0.1, until: 100",
        "lr: 0.1, until: {chi_above: 1, at_most: 100}",
        ("phases.0.until", "chi_above", "less than 1"),
    ),
    "unknown field of a condition": Malformed(
        "lr: 0.1, until: 100",
        "lr: 0.1, until: {chi: 0.9, chi_above: 0.9, at_most: 100}",
        ("phases.0.until", "chi", "unknown"),
    ),
    "yes for a carried state": Malformed(
        "lr: 0.1, until: 100", "lr: 0.1, until: 100, carry: 1", ("phases.0.carry", "true or false", "1")
    ),
    "unknown init": Malformed("base:\n", "base:\n  init: xaver\n", ("base.init", "Did you mean 'xavier'")),
    "unknown probe": Malformed(
        "base:\n", "base:\n  probes: [curvatur]\n", ("base.probes.0", "Did you mean 'curvature'")
    ),
    "negative probe period": Malformed(
        "base:\n", "base:\n  probes: [{name: curvature, every: 0}]\n", ("base.probes.0", "every", "0")
    ),
    "text for a number": Malformed(
        "lr: 0.1, until: 100", "lr: fast, until: 100", ("base.phases.0.lr", "'fast'")
    ),
    "negative rate": Malformed(
        "lr: 0.1, until: 100", "lr: -1, until: 100", ("phases.0.lr", "greater than 0", "-1")
    ),
    "not a number": Malformed("lr: 0.1, until: 100", "lr: .nan, until: 100", ("phases.0.lr", "nan")),
    "infinite rate": Malformed(
        "lr: 0.1, until: 100", "lr: .inf, until: 100", ("phases.0.lr", "finite", "inf")
    ),
    "yes for a number": Malformed("until: 100", "until: true", ("phases.0.until", "True")),
    "fraction of a step": Malformed("until: 100", "until: 1.5", ("phases.0.until", "1.5")),
    "zero k": Malformed("k: 10", "k: 0", ("phases.1.k", "0")),
    "no phases": Malformed(
        "  phases:\n    - {lr: 0.1, until: 100}\n    - {lr: 0.1, until: 200, k: 10}\n",
        "  phases: []\n",
        ("base.phases", "at least 1"),
    ),
    "no steps at all": Malformed(
        "until: 100}\n    - {lr: 0.1, until: 200, k: 10}", "until: 0}", ("base", "no phase has a step")
    ),
    "batch beyond the data": Malformed(
        "base:\n", "base:\n  batch_size: 6000\n", ("batch_size", "6000", "5000")
    ),
    "holdout beyond the data": Malformed(
        "alpha_dom: [1, 2, .inf]",
        "alpha_dom: [1, 2, .inf]\n      holdout_size: [500, 5001]",
        ("grids.main", "holdout_size", "5001", "5000"),
    ),
    "no grids": Malformed(GOOD[GOOD.index("grids:") :], "grids: []\n", ("grids", "at least 1")),
    "neither grids nor axes": Malformed(GOOD[GOOD.index("grids:") :], "", ("grids", "missing")),
    "empty axes": Malformed(GOOD[GOOD.index("grids:") :], "axes: {}\n", ("axes", "at least one")),
    "grids beside axes": Malformed("grids:", "axes: {lr: [0.1]}\ngrids:", ("`axes` beside `grids`",)),
    "empty values": Malformed("lr: [0.1, 0.2]", "lr: []", ("grids.0.axes.lr", "at least one value")),
    "a scalar axis": Malformed("lr: [0.1, 0.2]", "lr: 0.1", ("grids.0.axes.lr", "0.1", "list")),
    "null in an axis": Malformed("lr: [0.1, 0.2]", "lr: [0.1, null]", ("axes.lr", "values[1]", "None")),
    "duplicate values": Malformed("lr: [0.1, 0.2]", "lr: [0.1, 0.10]", ("axes.lr", "0.1 twice")),
    "duplicate infinities": Malformed("[1, 2, .inf]", "[1, inf, .inf]", ("axes.alpha_dom", "inf", "twice")),
    "bad value": Malformed(
        "lr: [0.1, 0.2]", "lr: [0.1, -0.2]", ("axes.lr", "values[1]", "-0.2", "greater than 0")
    ),
    "text value": Malformed("[1, 2, .inf]", "[1, 2, infinite]", ("alpha_dom", "values[2]", "'infinite'")),
    "unknown axis": Malformed("lr: [0.1, 0.2]", "alpha_dim: [1]", ("alpha_dim", "Did you mean 'alpha_dom'")),
    "reserved axis": Malformed("lr: [0.1, 0.2]", "grid: [1]", ("axes.grid", "reserved")),
    "axis with a bad name": Malformed(
        "lr: [0.1, 0.2]", "Learning Rate: {path: phases.1.lr, values: [0.1]}", ("Learning Rate",)
    ),
    "path that does not exist": Malformed(
        "lr: [0.1, 0.2]",
        "rate: {path: phases.1.rl, values: [0.1]}",
        ("axes.rate", "phases.1.rl", "phases.1.lr"),
    ),
    "path that is no text": Malformed(
        "lr: [0.1, 0.2]", "rate: {path: 5, values: [0.1]}", ("grids.0.axes.rate", "path", "5")
    ),
    "path in a choice that is no text": Malformed(
        "SGD: {}", "SGD: {1: 2}", ("choices.SGD", "dotted path", "1")
    ),
    "option that is no text": Malformed(
        "model: mlp", "model: {name: mlp, 5: 3}", ("base.model", "5", "text")
    ),
    "eigenvalue beyond the probe": Malformed(
        "kind: heatmap, name: heat, x: alpha_dom, y: lr,",
        "kind: curves, name: heat, metrics: [curvature/lambda_1],",
        ("reports.heat", "curvature/lambda_1"),
    ),
    "an index that is no digit": Malformed(
        "lr: [0.1, 0.2]", "rate: {path: phases.².lr, values: [0.1]}", ("axes.rate", "phases.².lr", "index")
    ),
    "an option that is not a number": Malformed(
        "lr: 0.1, until: 100",
        "lr: 0.1, until: 100, optimizer: {name: sam, rho: .inf}",
        ("phases.0.optimizer", "optimizer.rho", "finite", "inf"),
    ),
    "path to nowhere": Malformed(
        "lr: [0.1, 0.2]", "rate: {path: sed, values: [1]}", ("axes.rate", "Did you mean 'seed'")
    ),
    "path into a number": Malformed(
        "lr: [0.1, 0.2]", "s: {path: seed.x, values: [1]}", ("axes.s", "seed.x", "no parts")
    ),
    "path to all phases": Malformed(
        "lr: [0.1, 0.2]", "rate: {path: phases, values: [1]}", ("axes.rate", "phases.<index or *>")
    ),
    "phase out of range": Malformed(
        "lr: [0.1, 0.2]",
        "rate: {path: phases.2.lr, values: [0.1]}",
        ("grids.main.axes.rate", "phases.2.lr", "0 to 1"),
    ),
    "choice with a bad path": Malformed(
        "SGD: {}", "SGD: {phases.1.alpa_dom: 1}", ("axes.method", "choices.SGD", "phases.1.alpha_dom")
    ),
    "choice with a bad value": Malformed(
        "SGD: {}", "SGD: {phases.1.alpha_dom: 0}", ("choices.SGD", "greater than 0")
    ),
    "a label that drives a terminal": Malformed(
        "{SGD: {}}", '{"\\e[31m": {}}', ("axes.method", "label", "\\x1b[31m", "printable")
    ),
    "labels that read the same": Malformed(
        "SGD: {}", '"1": {}, 1: {seed: 1}', ("grids.sgd.axes.method", "'1' and 1", "read the same")
    ),
    "a label of true": Malformed(
        "SGD: {}", "true: {}", ("axes.method", "the label True", "a number or text")
    ),
    "a label that is no number": Malformed("SGD: {}", ".nan: {}", ("axes.method", "the label nan")),
    "searched labels that read the same": Malformed(
        "reports:",
        "search: {axes: {m: {choices: {'2': {}, 2: {seed: 1}}}}}\nreports:",
        ("search.axes.m", "'2' and 2"),
    ),
    "no choices": Malformed("{SGD: {}}", "{}", ("axes.method", "choices", "found {}")),
    "choices beside values": Malformed(
        "{choices: {SGD: {}}}", "{choices: {SGD: {}}, values: [1]}", ("axes.method", "`choices` beside")
    ),
    "two axes that set the same": Malformed(
        "lr: [0.1, 0.2]",
        "lr: [0.1, 0.2]\n      rate: {path: phases.*.lr, values: [0.1]}",
        ("grids.main.axes.rate", "phases.1.lr", "'lr'"),
    ),
    "nothing trains": Malformed(
        "lr: [0.1, 0.2]",
        "lr: [0.1, 0.2]\n    set: {phases.1.beta_bulk: .inf}",
        ("grids.main at alpha_dom=inf", "both"),
    ),
    "set of a path that does not exist": Malformed(
        "  - name: sgd\n",
        "  - name: sgd\n    set: {solver.tolerence: 1}\n",
        ("grids.sgd.set", "Did you mean 'tolerance'"),
    ),
    "set of a phase out of range": Malformed(
        "  - name: sgd\n",
        "  - name: sgd\n    set: {phases.5.lr: 1}\n",
        ("grids.sgd.set.phases.5.lr", "0 to 1"),
    ),
    "set of a wrong value": Malformed(
        "  - name: sgd\n", "  - name: sgd\n    set: {seed: -1}\n", ("grids.sgd.set", "seed", "-1")
    ),
    "duplicate grid names": Malformed("- name: sgd", "- name: main", ("grids", "'main' twice")),
    "a grid with a bad name": Malformed("- name: sgd", "- name: a.b", ("grids.1.name", "'a.b'")),
    "exclusion of an unknown axis": Malformed(
        "  - name: sgd\n",
        "    exclude: [{alpha_don: 1}]\n  - name: sgd\n",
        ("exclude[0]", "Did you mean 'alpha_dom'"),
    ),
    "exclusion of an unknown value": Malformed(
        "  - name: sgd\n",
        "    exclude: [{alpha_dom: 3}]\n  - name: sgd\n",
        ("exclude[0].alpha_dom", "3", "1.0, 2.0, inf"),
    ),
    "exclusion of everything": Malformed(
        "  - name: sgd\n",
        "    exclude: [{lr: [0.1, 0.2]}]\n  - name: sgd\n",
        ("grids.main", "leaves no point"),
    ),
    "too many points": Malformed(
        "lr: [0.1, 0.2]",
        "lr: [0.1, 0.2]\n      seed: ["
        + ", ".join(map(str, range(2000)))
        + "]\n      holdout_seed: ["
        + ", ".join(map(str, range(2000)))
        + "]",
        ("24,000,001", "10,000,000"),
    ),
    "report of an unknown kind": Malformed(
        "kind: heatmap", "kind: heatmp", ("reports.0", "Did you mean 'heatmap'")
    ),
    "report without a kind": Malformed("kind: heatmap, ", "", ("reports.0", "kind")),
    "report of an unknown axis": Malformed(
        "x: alpha_dom", "x: alpha", ("reports.heat.x", "Did you mean 'alpha_dom'")
    ),
    "report of another grid's axis": Malformed(
        "x: alpha_dom", "x: method", ("reports.heat.x", "'method'", "alpha_dom")
    ),
    "report over the seed": Malformed("x: alpha_dom", "x: seed", ("reports.heat.x", "spread")),
    "report of an unknown grid": Malformed(
        "grids: [main]", "grids: [mian]", ("reports.heat", "Did you mean 'main'")
    ),
    "report of an unknown metric": Malformed(
        "y: lr,",
        "y: lr, metrics: [final/test_acuracy],",
        ("reports.heat", "Did you mean 'final/test_accuracy'"),
    ),
    "report of an unknown value": Malformed(
        "y: lr,", "y: lr, where: {lr: [0.3]},", ("reports.heat.where.lr", "0.3", "0.1, 0.2")
    ),
    "report of an unknown field": Malformed("y: lr,", "y: lr, z: lr,", ("reports.0", "'z'", "Valid")),
    "report with an empty filter": Malformed(
        "y: lr,", "y: lr, where: {lr: []},", ("reports.0.where.lr", "no value")
    ),
    "report with a list in a filter": Malformed(
        "y: lr,", "y: lr, where: {lr: [[0.1]]},", ("reports.0.where.lr.0", "a number or text", "[0.1]")
    ),
    "report with text for a truth value": Malformed(
        "kind: heatmap, name: heat, x: alpha_dom, y: lr, grids: [main]",
        "kind: curves, name: heat, log_y: 'no'",
        ("reports.0.log_y", "true or false", "'no'"),
    ),
    "report with text for a number": Malformed(
        "kind: heatmap, name: heat, x: alpha_dom, y: lr, grids: [main]",
        "kind: curves, name: heat, max_step: '5'",
        ("reports.0.max_step", "whole number", "'5'"),
    ),
    "report with a name that no file can have": Malformed(
        "name: heat,", "name: " + "a" * 300 + ",", ("reports.0.name", "at most 100 characters")
    ),
    "report of eigenvalues without a probe": Malformed(
        "kind: heatmap, name: heat, x: alpha_dom, y: lr, grids: [main]",
        "kind: spectrum, name: heat",
        ("reports.heat", "curvature"),
    ),
    "a profile of what is not measured": Malformed(
        "kind: heatmap, name: heat, x: alpha_dom, y: lr, grids: [main]",
        "kind: profile, name: heat, series: spread/gradient_<i>, steps: [0]",
        ("reports.heat", "spread", "add the probe"),
    ),
    "a path of an unknown series": Malformed(
        "kind: heatmap, name: heat, x: alpha_dom, y: lr, grids: [main]",
        "kind: path, name: heat, x: train/los, y: train/loss",
        ("reports.heat", "train/los", "Did you mean"),
    ),
    "a claim of an unknown statistic": Malformed(
        "reports:\n",
        "claims:\n  - {name: c, says: so, statistic: levl, band: {at_least: 1}}\nreports:\n",
        ("claims.0.statistic", "levl", "Did you mean 'level'"),
    ),
    "a statistic with an option that is no text": Malformed(
        "reports:\n",
        "claims:\n  - {name: c, says: so, statistic: {name: level, 5: 1}, band: {at_least: 1}}\nreports:\n",
        ("claims.0.statistic", "5", "text"),
    ),
    "an objective that is no text": Malformed(
        "reports:\n",
        "search: {axes: {lr: [0.1, 0.2]}, objectives: [[x]], cells: 1}\nreports:\n",
        ("search.objectives", "['x']", "final/train_loss"),
    ),
    "a claim without a band": Malformed(
        "reports:\n", "claims:\n  - {name: c, says: so, statistic: final}\nreports:\n", ("claims.0", "band")
    ),
    "a claim about an unknown grid": Malformed(
        "reports:\n",
        "claims:\n  - {name: c, says: so, statistic: final, band: {at_least: 1}, grids: [mian]}\nreports:\n",
        ("claims.c", "mian", "Did you mean 'main'"),
    ),
    "a claim about an unknown axis": Malformed(
        "reports:\n",
        "claims:\n  - {name: c, says: so, statistic: final, band: {at_most: 1}, where: {ler: 1}}\nreports:\n",
        ("claims.c", "ler", "Did you mean 'lr'"),
    ),
    "duplicate report names": Malformed(
        "reports:\n", "reports:\n  - {kind: finals, name: heat, x: lr}\n", ("reports", "'heat' twice")
    ),
    "not YAML": Malformed("grids:", "grids: [", ("line",)),
    "duplicate keys": Malformed("base:\n", "base:\n  seed: 1\n  seed: 2\n", ("line 4", "'seed'", "twice")),
    "a tag": Malformed(
        "model: mlp", "model: !!python/object/apply:os.system ['true']", ("line 3", "python", "not allowed")
    ),
    "another tag": Malformed("model: mlp", "model: !!python/name:os.system", ("not allowed",)),
    "a tag of YAML's own": Malformed("until: 100", "until: !!bool x", ("line 6", "'!!bool'", "not allowed")),
    "half a letter": Malformed(
        "name: small", 'name: small\ndescription: "\\ud800"', ("line 2, column 14", "surrogate")
    ),
    "aliases": Malformed("base:\n", "base: &base\n  seed: *base\n", ("line 3", "aliases")),
    "an alias bomb": Malformed(
        "name: small",
        "a: &a [x, x]\n"
        + "".join(f"{n}: &{n} [*{m}, *{m}, *{m}]\n" for m, n in zip("abcdefgh", "bcdefghi", strict=True)),
        ("aliases",),
    ),
    "two documents": Malformed("grids:", "---\ngrids:", ("a single document", "but found another")),
    "deep nesting": Malformed("name: small", "name: " + "[" * 5000, ("nested too deeply",)),
    "a huge number": Malformed(
        "until: 100", "until: " + "9" * 5000, ("line 6", "number", "9999…", "allowed")
    ),
    "a number beyond 64 bits": Malformed(
        "until: 100", "until: 18446744073709551616", ("line 6", "18446744073709551616", "9223372036854775807")
    ),
    "a control character": Malformed("name: small", "name: sm\x07all", ("not YAML",)),
    "smoke that is no mapping": Malformed("reports:", "smoke: [1]\nreports:", ("smoke", "mapping")),
}
