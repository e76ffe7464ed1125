# s3cmd.
set -eux
cat >s3cfg <<C
[default]
access_key = $AWS_ACCESS_KEY_ID
secret_key = $AWS_SECRET_ACCESS_KEY
host_base = $S3_HOST
host_bucket = $S3_HOST
bucket_location = RegionOne
use_https = False
multipart_chunk_size_mb = 5
C
s() { s3cmd -c s3cfg "$@"; }
s mb s3://cmdb
head -c 12000000 /dev/urandom >big; head -c 4096 /dev/urandom >small
s put big small s3://cmdb/
s put --add-header='Cache-Control: no-cache' small 's3://cmdb/dir/ü x'
s ls s3://cmdb | grep -q 's3://cmdb/big'
[ "$(s ls -r s3://cmdb | wc -l)" = 3 ]
s get s3://cmdb/big back && cmp big back
s get 's3://cmdb/dir/ü x' back2 && cmp small back2
s info s3://cmdb/small | grep -q "MD5 sum"
s info s3://cmdb
s cp s3://cmdb/small s3://cmdb/copy
s mv s3://cmdb/copy s3://cmdb/moved
mkdir tree; cp small tree/1; cp small tree/2
s sync tree/ s3://cmdb/tree/
s sync s3://cmdb/tree/ tree2/ && diff -r tree tree2
s du s3://cmdb
s setacl --acl-public s3://cmdb
s del --recursive --force s3://cmdb
s rb s3://cmdb
