"""What needs a cluster with images of ours is no test where there is none."""

import os

collect_ignore = [] if os.environ.get("OPTIO_TEST_AGENT_IMAGE") else ["test_agent_pods.py"]
