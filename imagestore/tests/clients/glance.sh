#!/usr/bin/env bash
# Metadata definitions, imports and the cache with the glance client. IMAGE_URL is the service's.
set -euo pipefail
as() { local who=$1; shift; glance --os-image-api-version 2 --os-image-url "$IMAGE_URL" --os-auth-token "$who" "$@"; }
# Reads all: a client does not like its pipe to close.
has() { grep -- "$1" >/dev/null || { echo "lacks $1"; exit 1; }; }
lacks() { ! grep -- "$1" >/dev/null || { echo "has $1"; exit 1; }; }

as admin md-namespace-create NS --display-name Name --description Text --visibility public | has Name
as alice md-namespace-list | has NS
as alice md-namespace-show NS | has public
as admin md-namespace-update NS --visibility public --display-name Other | has Other
! as alice md-namespace-create MINE 2>/dev/null

as alice md-resource-type-list | has OS::Nova::Flavor
as admin md-resource-type-associate NS --name OS::Nova::Flavor --prefix hw: | has hw:
as alice md-namespace-resource-type-list NS | has OS::Nova::Flavor
as alice md-namespace-list --resource-types OS::Nova::Flavor | has NS

as admin md-property-create NS --name cores --title Cores --type integer --schema '{"minimum": 1}' | has Cores
as alice md-property-list NS | has cores
as alice md-property-show NS cores | has integer
as admin md-property-update NS cores --title More --schema '{"type": "integer", "minimum": 2}'
as alice md-property-show NS cores | has More

as admin md-object-create NS --name cpu --schema '{"properties": {"x": {"title": "X", "type": "string"}}}' | has cpu
as alice md-object-list NS | has cpu
as alice md-object-property-show NS cpu x | has X
as admin md-object-update NS cpu --name chip
as alice md-object-show NS chip | has chip

as admin md-tag-create NS --name fast | has fast
as admin md-tag-create-multiple NS --names slow,cheap --delim , | has cheap
as alice md-tag-list NS | has slow
as admin md-tag-update NS slow --name slower
as alice md-tag-show NS slower | has slower

as admin md-tag-delete NS slower
as admin md-namespace-tags-delete NS
as admin md-object-delete NS chip
as admin md-namespace-objects-delete NS
as admin md-property-delete NS cores
as admin md-namespace-properties-delete NS
as admin md-resource-type-deassociate NS OS::Nova::Flavor
as admin md-namespace-delete NS
as alice md-namespace-list | lacks NS

as alice import-info | has web-download
as alice stores-info | has images
as admin stores-info --detail | has rbd
head -c 100000 /dev/urandom >file
as alice image-create-via-import --import-method glance-direct --disk-format raw --container-format bare --name direct <file | has direct
id=$(as alice image-list | awk '/direct/ {print $2}')
for _ in $(seq 60); do as alice image-show "$id" | grep active >/dev/null && break; sleep 0.5; done
as alice image-download "$id" --file back
cmp file back
as admin cache-clear
as admin cache-queue "$id"
as admin cache-list | has "$id.*cached"
as admin cache-delete "$id"
as admin cache-list | lacks "$id"
! as alice cache-list 2>/dev/null
as alice image-tasks "$id" | has success
as admin task-list | has api_image_import
as alice image-delete "$id"
