"""What needs a cluster is no test where there is none."""

from tests.executors.pods.place import IMAGE

collect_ignore = [] if IMAGE else ["test_cluster.py", "test_egress.py", "test_warm.py"]
