#!/bin/sh
# Print a secret of AWS Secrets Manager. Used as OPTIO_SECRET_COMMAND, with the name as argument. It needs the AWS CLI, a region
# and the right secretsmanager:GetSecretValue. AWS_SECRET_PREFIX stands before each name, `optio/` by default.
set -u
exec 3>&1
problem=$(aws secretsmanager get-secret-value --secret-id "${AWS_SECRET_PREFIX-optio/}$1" --query SecretString \
    --output text 2>&1 >&3) && exit 0
case $problem in *ResourceNotFoundException*) exit 3 ;; esac
printf '%s\n' "$problem" >&2
exit 1
