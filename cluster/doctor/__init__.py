"""What is wrong with a cluster, and what to do about it.

node        what one node finds out about itself and its surroundings, as plain values
survey      asks every node of a Ray cluster, or this machine alone
judgement   values -> findings; pure, so that every fault can be planted in a test
checkup     the two in order, here or as a job on a cluster
"""
