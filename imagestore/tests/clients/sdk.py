"""Metadata definitions, imports and tasks with openstacksdk. IMAGE_URL is the service's."""
import os

import openstack
from keystoneauth1 import session, token_endpoint
from openstack import exceptions


class Token(token_endpoint.Token):
    """A token with the endpoint that a catalog and the service's versions would lead to."""

    def get_endpoint(self, session, **kwargs):
        return self.endpoint + "/v2"


def cloud(who):
    asked = session.Session(auth=Token(os.environ["IMAGE_URL"], who))
    return openstack.connection.Connection(session=asked).image


def refused(kind, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind:
        return
    raise AssertionError(f"{call} was not refused")


admin, alice = cloud("admin"), cloud("alice")

made = admin.create_metadef_namespace(namespace="NS", visibility="public", description="Text", display_name="Name")
assert made.namespace == "NS" and made.owner == "p0", made
assert [n.namespace for n in alice.metadef_namespaces()] == ["NS"]
refused(exceptions.ForbiddenException, alice.create_metadef_namespace, namespace="MINE")
refused(exceptions.ConflictException, admin.create_metadef_namespace, namespace="NS")
changed = admin.update_metadef_namespace("NS", display_name="Other", visibility="public")
assert changed.display_name == "Other", changed

types = [t.name for t in alice.metadef_resource_types()]
assert "OS::Glance::Image" in types
admin.create_metadef_resource_type_association("NS", name="OS::Glance::Image", prefix="hw_")
assert [a.name for a in alice.metadef_resource_type_associations("NS")] == ["OS::Glance::Image"]

prop = admin.create_metadef_property("NS", name="cores", title="Cores", type="integer", minimum=1)
assert prop.title == "Cores"
assert [p.name for p in alice.metadef_properties("NS")] == ["cores"]
assert admin.update_metadef_property("cores", "NS", title="More", type="integer", name="cores").title == "More"
assert alice.get_metadef_property("cores", "NS").title == "More"

thing = admin.create_metadef_object("NS", name="cpu", description="d")
assert thing.name == "cpu"
assert [o.name for o in alice.metadef_objects("NS")] == ["cpu"]
assert admin.update_metadef_object("cpu", "NS", name="chip").name == "chip"
assert alice.get_metadef_object("chip", "NS").name == "chip"

admin.delete_metadef_object("chip", "NS")
admin.delete_all_metadef_objects("NS")
admin.delete_metadef_property("cores", "NS")
admin.delete_all_metadef_properties("NS")
admin.delete_metadef_resource_type_association("OS::Glance::Image", "NS")
admin.delete_metadef_namespace("NS")
refused(exceptions.NotFoundException, alice.get_metadef_namespace, "NS")
assert alice.get_metadef_namespace_schema().name == "namespace"

assert alice.get_import_info().import_methods["value"] == ["glance-direct", "web-download"]
assert [(s.id, s.is_default) for s in alice.stores()] == [("images", True)] or list(alice.stores())[0].id == "images"
image = alice.create_image("staged", disk_format="raw", container_format="bare", use_import=True, data=b"x" * 5000,
                           validate_checksum=False)
image = alice.wait_for_status(alice.get_image(image.id), "active", wait=60, interval=1)
assert image.size == 5000, image
tasks = list(admin.tasks())
assert tasks and admin.get_task(tasks[0].id).status == "success"
alice.delete_image(image.id)
