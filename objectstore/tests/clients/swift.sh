# python-swiftclient's command.
set -eux
s() { swift --os-auth-token p:member --os-storage-url "$SWIFT_URL" "$@"; }
s stat
s post cont -m colour:blue -r '.r:*'
s stat cont | grep -qi 'colour: blue'
head -c 9000000 /dev/urandom >big; head -c 4096 /dev/urandom >small; : >empty; mkdir -p d/e; cp small 'd/e/ü x'
s upload cont big small empty d
[ "$(s list cont | wc -l)" = 4 ]
s list cont --delimiter / | grep -q '^d/$'
s list --lh cont
s download cont big -o back && cmp big back
s download cont --output-dir all && cmp small "all/d/e/ü x"
s upload --segment-size 2000000 --object-name slo cont big
s stat cont slo | grep -qi 'Static Large Object\|X-Static-Large-Object'
s download cont slo -o back2 && cmp big back2
s upload --use-slo --segment-size 3000000 --object-name slo2 cont big
s upload --segment-size 2000000 --object-name dlo --use-dlo cont big 2>/dev/null || true
s post cont small -m a:b
s stat cont small | grep -qi 'meta a: b'
s copy --destination /cont/copied cont small
s download cont copied -o back3 && cmp small back3
curl -sf "$SWIFT_URL/cont/small" | cmp - small
s post -m Temp-URL-Key:secret
url=$(swift tempurl GET 600 "/v1/AUTH_p/cont/small" secret)
curl -sf "$SWIFT_ROOT$url" | cmp - small
s delete cont slo
s delete cont
s list | grep -q cont_segments && s delete cont_segments || true
s delete --all
[ -z "$(s list)" ]
s capabilities "$SWIFT_ROOT" | grep -q bulk_delete || s info "$SWIFT_ROOT"
