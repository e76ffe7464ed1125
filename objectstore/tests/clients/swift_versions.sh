# python-swiftclient's command on versions.
set -eux
s() { swift --os-auth-token p:member --os-storage-url "$SWIFT_URL" "$@"; }
s post vers
echo null >o; s upload vers o
s post vers -H "X-Versions-Enabled: true"
for n in 1 2 3; do echo "$n" >o; s upload vers o; done
s stat vers | grep -qi "versions-enabled: true"
[ "$(s list --versions vers | grep -c ' o$')" = 4 ]
old=$(s list --versions vers | awk '$NF == "o" && $4 != "null" {print $4}' | tail -1)
[ -n "$old" ]
s download vers o --version-id "$old" -o back && [ "$(cat back)" = 1 ]
s stat vers o --version-id "$old" | grep -qi "content length: 2"
s delete vers o
[ -z "$(s list vers)" ]
s delete vers o --version-id "$old"
[ "$(s list --versions vers | grep -c ' o$')" = 4 ]
s post hist
s post cur -H "X-Versions-Location: hist"
for n in 1 2; do echo "$n" >p; s upload cur p; done
[ "$(s list hist | wc -l)" = 1 ]
s delete cur p
s download cur p -o back && [ "$(cat back)" = 1 ]
s delete cur; s delete hist
s delete --versions vers
[ -z "$(s list)" ]
