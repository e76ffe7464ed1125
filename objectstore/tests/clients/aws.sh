# The AWS command line.
set -eux
aws s3 mb s3://awsb
head -c 20000000 /dev/urandom >big; head -c 4096 /dev/urandom >small; mkdir -p tree/sub; cp small tree/a; cp small "tree/sub/b ü"
aws s3 cp big s3://awsb/big
aws s3 cp - s3://awsb/stdin <small
aws s3 cp s3://awsb/big back && cmp big back
aws s3 cp s3://awsb/stdin back2 && cmp small back2
aws s3 sync tree s3://awsb/tree
aws s3 sync s3://awsb/tree tree2 && diff -r tree tree2
aws s3 ls s3://awsb/ | grep -q "PRE tree/"
[ "$(aws s3 ls --recursive s3://awsb | wc -l)" = 4 ]
aws s3 mv s3://awsb/stdin s3://awsb/moved
aws s3api head-object --bucket awsb --key moved | grep -q ContentLength
aws s3 presign s3://awsb/moved | xargs curl -sf | cmp - small
aws s3 rm --recursive s3://awsb
aws s3 rb s3://awsb
