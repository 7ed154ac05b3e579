"""Where tests of pods run: on the cluster of KUBECONFIG, if OPTIO_TEST_IMAGE names an image there with a shell and Python; on
the stand-in, if it works, where there is none."""

import os

from tests.executors.pods import standin

NAMESPACE = os.environ.get("OPTIO_TEST_NAMESPACE", "optio-test")
CLUSTER = os.environ.get("OPTIO_TEST_IMAGE") if os.environ.get("KUBECONFIG") else None
"""The image on a real cluster; None where there is none."""
STANDIN = standin.IMAGE if standin.works() else None
"""The image on the stand-in; None where that cannot be."""
IMAGE = CLUSTER or STANDIN
