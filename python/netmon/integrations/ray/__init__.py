"""Ray: an engine of the cluster view, for jobs that have no store of torch.distributed in common.

>>> from netmon.integrations import ray            # does not import ray

Nothing is to be called: ``Monitor(cluster=True)``, or ``Monitor.cluster()``, finds Ray where the process has initialised it.
"""
