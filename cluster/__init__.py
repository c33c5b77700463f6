"""How to get a Ray cluster, hand a sweep to it, and find out what is wrong with it.

    spec -> kuberay, slurm, ray_up        files for each kind of cluster, as pure functions to text
    secrets                               what docker-compose.yml needs and nobody may know
    submission -> jobs                    a sweep as a job of Ray's Jobs API
    doctor                                checks, each finding with what to do

It builds on `sweep`, never the other way round: its commands join the command line as an entry point.
"""
