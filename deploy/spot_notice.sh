#!/bin/sh
# Tells Ray when AWS takes this spot instance back, so that its replicas publish a checkpoint at the next batch.
#
# AWS says so two minutes before, in the instance's metadata and nowhere else; neither Ray nor its cluster launcher looks
# there. Runs on a worker, in the background, from the environment the project is installed in; ends after one notice.
#
#   RAY_ADDRESS=HOST:6379 deploy/spot_notice.sh &
set -eu

metadata="${SPHERE_INSTANCE_METADATA:-http://169.254.169.254/latest}"

is_taken_back() {
    token="$(curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token")" || return 1
    curl -sf -m 2 -o /dev/null -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/spot/instance-action"
}

while ! is_taken_back; do
    sleep 5
done
# The node that RAY_ADDRESS is reached from is this one.
exec ray drain-node --address "$RAY_ADDRESS" --reason DRAIN_NODE_REASON_PREEMPTION \
    --reason-message 'spot instance is taken back' --deadline-remaining-seconds 110
