#!/bin/sh
# Print a secret of Google Secret Manager. Used as OPTIO_SECRET_COMMAND, with the name as argument. It needs the gcloud CLI, a
# project and the role roles/secretmanager.secretAccessor. GCP_SECRET_PREFIX stands before each name, nothing by default.
set -u
exec 3>&1
problem=$(gcloud secrets versions access latest --secret "${GCP_SECRET_PREFIX-}$1" --quiet 2>&1 >&3) && exit 0
case $problem in *NOT_FOUND*) exit 3 ;; esac
printf '%s\n' "$problem" >&2
exit 1
