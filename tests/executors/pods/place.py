"""Where tests find a cluster: the one of KUBECONFIG, if OPTIO_TEST_IMAGE names an image there with a shell and Python."""

import os

IMAGE, NAMESPACE = os.environ.get("OPTIO_TEST_IMAGE"), os.environ.get("OPTIO_TEST_NAMESPACE", "optio-test")
