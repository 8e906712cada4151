"""An app's state as files: taken from the cluster with the offsets it stands for, and brought back into an empty one."""
