"""openstacksdk's cloud layer as programs use it, against a running cloud.

    sdk.py IMAGE SERVER      (clouds.yaml by OS_CLIENT_CONFIG_FILE; a qcow2 file; a server of the project demo)

The parts run side by side, for the sdk looks at a resource only every two seconds. Prints a line per part; what
fails is a traceback and the exit code.
"""
import concurrent.futures, hashlib, os, sys, tempfile, traceback, urllib.error, urllib.request, warnings

warnings.simplefilter("ignore")
import openstack
from openstack import exceptions

IMAGE, SERVER = sys.argv[1:3]
WAIT = 120


CLOUDS = {}


def connect(cloud="aquifer"):
    """One connection for all parts: a login is dear, and a program has one."""
    if cloud not in CLOUDS:
        CLOUDS[cloud] = openstack.connect(cloud=cloud)
        CLOUDS[cloud].authorize()
    return CLOUDS[cloud]


def refused(code, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except exceptions.HttpException as e:
        assert e.status_code == code, e
        return e
    raise AssertionError(f"{call} was accepted")


def volumes():
    """Create, find, update, snapshot, copy, attach, extend, delete in any order."""
    c = connect()
    v = c.create_volume(1, wait=True, timeout=WAIT, name="sdk-v", description="d", metadata={"k": "v"})
    assert (v.status, v.size, v.name, v.description, v.metadata) == ("available", 1, "sdk-v", "d", {"k": "v"}), v
    assert not v.is_bootable and not v.is_encrypted and not v.is_multiattach
    assert c.get_volume("sdk-v").id == v.id and c.get_volume_id("sdk-v") == v.id
    assert c.get_volume_by_id(v.id).id == v.id and c.volume_exists(v.id)
    assert c.get_volume("sdk-absent") is None and not c.delete_volume("sdk-absent")
    u = c.update_volume("sdk-v", name="sdk-v2", description="other")
    assert (u.name, u.description) == ("sdk-v2", "other"), u
    c.set_volume_bootable("sdk-v2", True)
    assert c.get_volume(v.id).is_bootable
    c.set_volume_bootable(v.id, False)
    assert not c.get_volume(v.id).is_bootable
    block = c.block_storage
    assert block.set_volume_metadata(v.id, a="b").metadata["a"] == "b"
    assert block.get_volume_metadata(v.id).metadata == {"k": "v", "a": "b"}
    block.delete_volume_metadata(v.id, ["a"])
    assert block.get_volume_metadata(v.id).metadata == {"k": "v"}

    s = c.create_volume_snapshot(v.id, wait=True, timeout=WAIT, name="sdk-s", description="sd")
    assert (s.status, s.volume_id, s.size, s.name, s.description) == ("available", v.id, 1, "sdk-s", "sd"), s
    assert c.get_volume_snapshot("sdk-s").id == c.get_volume_snapshot_by_id(s.id).id == s.id
    assert [x.id for x in c.list_volume_snapshots(detailed=True, filters={"volume_id": v.id})] == [s.id]
    assert [x.id for x in block.snapshots(volume_id=v.id, status="available")] == [s.id]
    assert [x.id for x in block.snapshots(volume_id=v.id, status="error")] == []
    assert block.set_snapshot_metadata(s.id, x="y").metadata == {"x": "y"}

    from_snapshot = c.create_volume(2, wait=True, timeout=WAIT, name="sdk-from-s", snapshot_id=s.id)
    assert (from_snapshot.size, from_snapshot.snapshot_id) == (2, s.id), from_snapshot
    clone = c.create_volume(1, wait=True, timeout=WAIT, name="sdk-clone", source_volid=v.id)
    assert clone.source_volume_id == v.id and clone.metadata == {}, clone
    names = {x.name for x in block.volumes(details=True, status="available")}
    assert {"sdk-v2", "sdk-from-s", "sdk-clone"} <= names, names
    pages = [x.id for x in block.volumes(details=False, limit=1)]
    assert len(pages) == len(set(pages)) >= 3, pages
    assert [x.id for x in block.volumes(name="sdk-clone")] == [clone.id]
    assert {x.name for x in c.search_volumes(filters={"name": "sdk-clone"})} == {"sdk-clone"}

    # A server uses it, and it grows there.
    server = c.get_server_by_id(SERVER)
    attachment = c.attach_volume(server, v, wait=True, timeout=WAIT)
    v = c.get_volume(v.id)
    assert v.status == "in-use" and c.get_volume_attach_device(v, SERVER) == attachment.device, (v, attachment)
    assert v.id in [x.id for x in c.get_volumes(server)]
    assert [a.volume_id for a in c.compute.volume_attachments(SERVER) if a.volume_id == v.id] == [v.id]
    refused(400, block.delete_volume, v.id, ignore_missing=False)
    refused(400, block.create_snapshot, volume_id=v.id, name="sdk-no")
    forced = c.create_volume_snapshot(v.id, force=True, wait=True, timeout=WAIT, name="sdk-forced")
    block.extend_volume(v.id, 2)
    block.wait_for_status(c.get_volume(v.id), "in-use", wait=WAIT)
    assert c.get_volume(v.id).size == 2
    c.detach_volume(server, v, wait=True, timeout=WAIT)
    v = c.get_volume(v.id)
    assert v.status == "available" and v.attachments == [], v

    # Parents first.
    refused(400, block.delete_volume, v.id, ignore_missing=False)
    assert c.delete_volume_snapshot(s.id, wait=True, timeout=WAIT)
    assert not c.delete_volume_snapshot(s.id)
    block.delete_volume(v.id, cascade=True)
    block.wait_for_delete(v, wait=WAIT)
    assert c.get_volume_snapshot(forced.id) is None
    for name in ("sdk-from-s", "sdk-clone"):
        assert c.delete_volume(name, wait=True, timeout=WAIT)
    limits = c.get_volume_limits()
    assert limits.absolute.max_total_volumes and limits.absolute.total_volumes_used >= 0, limits


def backups():
    c = connect()
    v = c.create_volume(1, wait=True, timeout=WAIT, name="sdk-b")
    full = c.create_volume_backup(v.id, name="sdk-full", description="bd", wait=True, timeout=WAIT)
    assert (full.status, full.volume_id, full.size, full.is_incremental) == ("available", v.id, 1, False), full
    more = c.create_volume_backup(v.id, name="sdk-more", incremental=True, wait=True, timeout=WAIT)
    assert more.is_incremental and c.get_volume_backup("sdk-full").has_dependent_backups
    s = c.create_volume_snapshot(v.id, wait=True, timeout=WAIT, name="sdk-bs")
    of = c.create_volume_backup(v.id, name="sdk-of", snapshot_id=s.id, wait=True, timeout=WAIT)
    assert of.snapshot_id == s.id, of
    assert {"sdk-full", "sdk-more", "sdk-of"} <= {b.name for b in c.list_volume_backups(filters={"volume_id": v.id})}
    assert [b.id for b in c.search_volume_backups("sdk-more")] == [more.id]
    refused(403, c.export_volume_backup, full.id)
    record = connect("aquifer-admin").export_volume_backup(full.id).json()["backup-record"]
    assert record["backup_service"] and record["backup_url"], record
    back = c.block_storage.restore_backup(more.id, name="sdk-restored")
    restored = c.get_volume(back.volume_id)
    c.block_storage.wait_for_status(restored, "available", wait=WAIT)
    assert restored.name == "sdk-restored", restored
    refused(400, c.block_storage.delete_backup, full.id, ignore_missing=False)
    for b in (of, more, full):
        assert c.delete_volume_backup(b.id, wait=True, timeout=WAIT)
    assert c.get_volume_backup("sdk-full") is None
    assert c.delete_volume_snapshot(s.id, wait=True, timeout=WAIT)
    for x in (v, restored):
        assert c.delete_volume(x.id, wait=True, timeout=WAIT)


def images():
    c = connect()
    data = open(IMAGE, "rb").read()
    sums = {"md5": hashlib.md5(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest()}
    qcow2 = {"filename": IMAGE, "disk_format": "qcow2", "container_format": "bare", "wait": True, "timeout": WAIT, **sums}
    i = c.create_image("sdk-i", tags=["one", "two"], min_disk=1, hw_disk_bus="virtio", meta={"free": "text"}, **qcow2)
    assert (i.status, i.size, i.checksum) == ("active", len(data), sums["md5"]), i
    assert (i.hash_algo, i.hash_value) == ("sha512", hashlib.sha512(data).hexdigest()), i
    assert sorted(i.tags) == ["one", "two"] and i.min_disk == 1 and i.hw_disk_bus == "virtio", i
    assert i.properties["free"] == "text" and i.properties["owner_specified.openstack.md5"] == i.checksum, i.properties
    # The same file again is the same image.
    again = c.create_image("sdk-i", **qcow2)
    assert again.id == i.id, (again, i)
    assert c.get_image("sdk-i").id == c.get_image_by_id(i.id).id == c.get_image_id("sdk-i") == i.id
    assert [x.id for x in c.search_images("sdk-i")] == [i.id] and c.get_image("sdk-absent") is None
    got = tempfile.NamedTemporaryFile()
    c.download_image(i.id, output_path=got.name)
    assert open(got.name, "rb").read() == data
    assert c.update_image_properties(i, min_ram=64, free="other")
    now = c.get_image(i.id)
    assert now.min_ram == 64 and now.properties["free"] == "other" and now.hw_disk_bus == "virtio", now
    image = c.image
    assert [x.id for x in image.images(name="sdk-i", visibility="shared", status="active")] == [i.id]
    assert [x.id for x in image.images(tag=["one", "two"])] == [i.id]
    ids = [x.id for x in image.images(limit=1, sort_key="name", sort_dir="asc")]
    assert len(ids) == len(set(ids)) >= 2, ids
    image.add_tag(i.id, "three"); image.remove_tag(i.id, "one")
    assert sorted(c.get_image(i.id).tags) == ["three", "two"]
    image.deactivate_image(i.id)
    assert image.get(f"/images/{i.id}/file").status_code == 403
    image.reactivate_image(i.id)
    image.update_image(i.id, is_protected=True)
    refused(403, image.delete_image, i.id, ignore_missing=False)
    image.update_image(i.id, is_protected=False)

    # Shared with another project, which takes it.
    other = connect("aquifer-admin")
    project = other.current_project_id
    member = image.add_member(i.id, member_id=project)
    assert (member.status, member.member_id, member.image_id) == ("pending", project, i.id), member
    assert other.image.update_member(project, i.id, status="accepted").status == "accepted"
    assert [m.member_id for m in image.members(i.id)] == [project]
    image.remove_member(project, i.id, ignore_missing=False)
    assert list(image.members(i.id)) == []

    # A volume of it, and an image of that.
    v = c.create_volume(1, image="sdk-i", bootable=True, wait=True, timeout=WAIT, name="sdk-iv")
    v = c.get_volume(v.id)
    assert v.is_bootable and v.volume_image_metadata["image_id"] == i.id, v
    of = c.create_image("sdk-iov", volume=v, disk_format="raw", container_format="bare", wait=True, timeout=WAIT)
    assert (of.status, of.disk_format, of.size) == ("active", "raw", 1 << 30), of
    c.block_storage.wait_for_status(c.get_volume(v.id), "available", wait=WAIT)
    staged = image.create_image("sdk-staged", data=b"0" * 4096, disk_format="raw", container_format="bare", use_import=True,
                                wait=True, timeout=WAIT)
    image.wait_for_status(staged, "active", wait=WAIT)
    assert "glance-direct" in image.get_import_info().import_methods["value"]
    assert list(image.stores())
    for name in ("sdk-i", "sdk-iov", "sdk-staged"):
        assert c.delete_image(name, wait=True, timeout=WAIT)
    assert not c.delete_image("sdk-i")
    assert c.delete_volume(v.id, wait=True, timeout=WAIT)


def objects():
    c = connect()
    assert c.get_container("sdk-c") is None and not c.delete_container("sdk-c")
    box = c.create_container("sdk-c", public=True)
    assert c.get_container_access("sdk-c") == "public", box
    c.set_container_access("sdk-c", "private")
    assert c.get_container_access("sdk-c") == "private"
    c.object_store.set_container_metadata("sdk-c", flavour="salt")
    assert c.get_container("sdk-c").metadata["flavour"] == "salt"
    c.object_store.delete_container_metadata("sdk-c", ["flavour"])
    assert "flavour" not in c.get_container("sdk-c").metadata
    assert "sdk-c" in [x.name for x in c.list_containers()] and [x.name for x in c.list_containers(prefix="sdk-c")][0] == "sdk-c"

    c.create_object("sdk-c", "small", data=b"content", metadata={"colour": "blue"})
    assert c.get_object("sdk-c", "small")[1] == "content"
    assert c.get_object_metadata("sdk-c", "small")["colour"] == "blue"
    c.update_object("sdk-c", "small", metadata={"colour": "red"})
    assert c.get_object_metadata("sdk-c", "small")["colour"] == "red"

    # As segments: a static large object, then a dynamic one.
    big = tempfile.NamedTemporaryFile()
    content = os.urandom(5 << 20) + b"end"
    big.write(content); big.flush()
    md5, sha256 = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
    segment = c.get_object_segment_size(2 << 20)
    assert segment == 2 << 20
    for slo in (True, False):
        name = f"big-{slo}"
        c.create_object("sdk-c", name, filename=big.name, segment_size=segment, use_slo=slo)
        got = tempfile.NamedTemporaryFile()
        headers, _ = c.get_object("sdk-c", name, outfile=got.name)
        assert int(headers["content-length"]) == len(content) and open(got.name, "rb").read() == content, headers
        meta = c.object_store.get_object_metadata(name, "sdk-c")
        assert bool(meta.is_static_large_object) is slo and bool(meta.object_manifest) is not slo, meta
        assert not c.is_object_stale("sdk-c", name, big.name, md5, sha256)
    assert b"".join(c.stream_object("sdk-c", "big-False")) == content
    c.create_directory_marker_object("sdk-c", "folder")
    assert {o.name for o in c.list_objects("sdk-c", prefix="big-")} >= {"big-True", "big-False"}
    assert [o.name for o in c.search_objects("sdk-c", "small")] == ["small"]
    assert c.get_object_capabilities().swift["max_file_size"] > 0

    # URLs that carry their own right.
    c.object_store.set_account_temp_url_key("account-secret")
    c.object_store.set_container_temp_url_key("sdk-c", "container-secret")
    endpoint = c.object_store.get_endpoint()
    host, account = endpoint.split("/v1/")
    for key in (None, "account-secret"):
        url = c.object_store.generate_temp_url(f"/v1/{account}/sdk-c/small", 60, "GET", temp_url_key=key)
        url = url.decode() if isinstance(url, bytes) else url
        assert urllib.request.urlopen(host + url).read() == b"content"
    prefix = c.object_store.generate_temp_url(f"/v1/{account}/sdk-c/big", 60, "GET", prefix=True, temp_url_key="container-secret")
    tail = prefix.split("?", 1)[1]
    assert urllib.request.urlopen(f"{endpoint}/sdk-c/big-True?{tail}").read() == content
    try:
        urllib.request.urlopen(f"{endpoint}/sdk-c/small?{tail}")
        raise AssertionError("a prefix URL opened what is not below it")
    except urllib.error.HTTPError as e:
        assert e.code == 401, e
    expires, signature = c.object_store.generate_form_signature("sdk-c", "up-", "", 1 << 20, 3, 60)
    assert expires and signature

    try:
        c.delete_container("sdk-c")
        raise AssertionError("a container with objects was deleted")
    except exceptions.SDKException as e:
        assert "not empty" in str(e), e
    # A static large object takes its segments along; a dynamic one leaves them.
    assert c.delete_object("sdk-c", "big-True") and c.delete_object("sdk-c", "big-False")
    left = [o.name for o in c.list_objects("sdk-c")]
    assert left == ["big-False/000000", "big-False/000001", "big-False/000002", "folder", "small"], left
    for name in left:
        assert c.delete_object("sdk-c", name), name
    assert not c.delete_object("sdk-c", "small") and c.delete_container("sdk-c")


def run(part):
    try:
        part()
        print("ok", part.__name__, flush=True)
        return True
    except Exception:
        print("FAILED", part.__name__, traceback.format_exc(), flush=True)
        return False


for cloud in ("aquifer", "aquifer-admin"):
    connect(cloud)
parts = [p for p in (volumes, backups, images, objects) if p.__name__ in (sys.argv[3:] or [p.__name__])]
with concurrent.futures.ThreadPoolExecutor() as pool:
    sys.exit(0 if all(list(pool.map(run, parts))) else 1)
