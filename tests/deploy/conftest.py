"""What needs a cluster with images of ours is no test where there is none."""

import os

collect_ignore = [] if os.environ.get("OPTIO_TEST_AGENT_IMAGE") else ["test_agent_pods.py", "test_gateway_pods.py"]
# All of Optio in the cluster of KUBECONFIG, of which the namespaces `optio` and `optio-runs` are these tests' own.
collect_ignore += [] if os.environ.get("OPTIO_TEST_DEPLOY") else ["test_installed.py", "test_installed_teams.py"]
