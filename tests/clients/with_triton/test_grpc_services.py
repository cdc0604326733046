"""gRPC's own services, asked as its tools ask: health checks and reflection."""

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import model_config_pb2, service_pb2

from server import Server
from triton_clients import WAIT_SECONDS_MAX

INFERENCE = "inference.GRPCInferenceService"
SERVING = health_pb2.HealthCheckResponse.SERVING
# Fields of the Open Inference Protocol, of KServe and of ours that Triton does not have.
NOT_TRITONS = {
    "inference.ModelMetadataResponse.properties",
    *(f"inference.RepositoryModel{call}Response.model_name" for call in ("Load", "Unload")),
    "inference.ModelStatistics.learned",
    "inference.RepositoryModelLoadResponse.isLoaded",
    "inference.RepositoryModelUnloadResponse.isUnloaded",
}


@pytest.fixture(scope="module", params=["http", "grpc"])
def channel(request: pytest.FixtureRequest, server: Server) -> Iterator[grpc.Channel]:
    """Of either port."""
    with grpc.insecure_channel(getattr(server, request.param)) as opened:
        yield opened


def test_the_server_and_its_models_are_serving(channel: grpc.Channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", INFERENCE, "iris"):
        assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING
    with pytest.raises(grpc.RpcError) as refusal:
        health.Check(health_pb2.HealthCheckRequest(service="irish"))
    assert refusal.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_watch_tells_the_status_at_once(channel: grpc.Channel):
    request = health_pb2.HealthCheckRequest(service="iris")
    watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=WAIT_SECONDS_MAX)
    assert next(watch).status == SERVING
    watch.cancel()


def test_reflection_names_the_services(channel: grpc.Channel):
    assert {INFERENCE, "grpc.health.v1.Health"} <= {*ProtoReflectionDescriptorDatabase(channel).get_services()}


def test_reflected_messages_have_tritons_fields_and_numbers(channel: grpc.Channel):
    """Whatever a message of ours is called in tritonclient's protocol, its fields are the same there."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    ours = {method.name: method for method in pool.FindServiceByName(INFERENCE).methods}
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    assert {*ours} == {method.name for method in theirs}
    checked: set[str] = set()
    for method in theirs:
        same(ours[method.name].input_type, method.input_type, checked)
        same(ours[method.name].output_type, method.output_type, checked)
    same(pool.FindMessageTypeByName("inference.ModelConfig"), model_config_pb2.ModelConfig.DESCRIPTOR, checked)
    assert len(checked) > 40


def same(ours: Descriptor, theirs: Descriptor, checked: set[str]) -> None:
    assert ours.full_name == theirs.full_name
    if ours.full_name in checked:
        return
    checked.add(ours.full_name)
    for field in ours.fields:
        if field.full_name in NOT_TRITONS:
            continue
        other = theirs.fields_by_name[field.name]
        found, expected = [(each.number, each.type, each.is_repeated) for each in (field, other)]
        assert found == expected, field.full_name
        if field.message_type:
            same(field.message_type, other.message_type, checked)
        if field.enum_type:
            values = {value.name: value.number for value in other.enum_type.values}
            for value in field.enum_type.values:
                assert values[value.name] == value.number
