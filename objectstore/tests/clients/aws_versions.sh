# The AWS command line on versions.
set -eux
a() { aws s3api --output text "$@"; }
aws s3 mb s3://awsver
a put-bucket-versioning --bucket awsver --versioning-configuration Status=Enabled
[ "$(a get-bucket-versioning --bucket awsver --query Status)" = Enabled ]
for n in 1 2 3; do echo "$n" >f; a put-object --bucket awsver --key k --body f --query VersionId >id$n; done
a get-object --bucket awsver --key k --version-id "$(cat id1)" back && [ "$(cat back)" = 1 ]
aws s3 cp s3://awsver/k - | grep -q 3
aws s3 rm s3://awsver/k
[ -z "$(aws s3 ls s3://awsver)" ]
[ "$(a list-object-versions --bucket awsver --query 'length(Versions)')" = 3 ]
a delete-object --bucket awsver --key k --version-id "$(a list-object-versions --bucket awsver --query 'DeleteMarkers[0].VersionId')"
aws s3 cp s3://awsver/k - | grep -q 3
a copy-object --bucket awsver --key k --copy-source "awsver/k?versionId=$(cat id2)"
aws s3 cp s3://awsver/k - | grep -q 2
a list-object-versions --bucket awsver --page-size 2 --query 'Versions[].VersionId' | tr '\t' '\n' >all
[ "$(wc -l <all)" = 4 ]
while read -r id; do a delete-object --bucket awsver --key k --version-id "$id"; done <all
aws s3 rb s3://awsver
