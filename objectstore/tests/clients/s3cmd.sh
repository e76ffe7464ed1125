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
s info s3://cmdb | grep -q 'ACL:.*\*anon\*: READ'
s setacl --acl-private s3://cmdb
s setacl --acl-public s3://cmdb/small
curl -sf "http://$S3_HOST/cmdb/small" | cmp - small
s setacl --acl-private s3://cmdb/small
! curl -sf "http://$S3_HOST/cmdb/small"
s setacl --acl-grant=read:q s3://cmdb/small
s info s3://cmdb/small | grep -q 'ACL:.*q: READ'
echo '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::cmdb/*"}]}' >policy
s setpolicy policy s3://cmdb
curl -sf "http://$S3_HOST/cmdb/big" | cmp - big
s delpolicy s3://cmdb
! curl -sf "http://$S3_HOST/cmdb/big"
echo '<CORSConfiguration><CORSRule><AllowedOrigin>http://a</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>' >cors
s setcors cors s3://cmdb
curl -s -H 'Origin: http://a' -D - -o /dev/null "http://$S3_HOST/cmdb/big" | grep -qi 'access-control-allow-origin: http://a'
s delcors s3://cmdb
s ws-create --ws-index=index.html s3://cmdb && s ws-info s3://cmdb | grep -q index.html && s ws-delete s3://cmdb
s put --server-side-encryption small s3://cmdb/sealed && s get s3://cmdb/sealed back3 && cmp small back3
s del --recursive --force s3://cmdb
s rb s3://cmdb
