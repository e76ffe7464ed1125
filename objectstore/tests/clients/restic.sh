# restic, on S3 and on Swift.
set -eux
export RESTIC_PASSWORD=test RESTIC_CACHE_DIR=$PWD/cache
mkdir -p src/sub; head -c 8000000 /dev/urandom >src/big; for i in $(seq 30); do echo "$i" >"src/sub/$i"; done
export OS_STORAGE_URL=$SWIFT_URL OS_AUTH_TOKEN=p:member
for repo in "s3:http://$S3_HOST/resticb/repo" "swift:resticswift:/repo"; do
  restic -r "$repo" init
  restic -r "$repo" backup src
  echo more >src/sub/more
  restic -r "$repo" backup src
  restic -r "$repo" check --read-data
  rm -rf back; restic -r "$repo" restore latest --target back
  diff -r src "$(find back -type d -name src)"
  restic -r "$repo" forget --keep-last 1 --prune
  restic -r "$repo" check
done
