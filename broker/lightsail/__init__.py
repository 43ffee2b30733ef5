"""The errand: the only room that talks to AWS. Lets out values of `model` and errors of `errors`, nothing else."""
