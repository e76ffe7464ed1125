-- Which policy document holds for an endpoint, for a service, or for a service in a region; '' is none of these.
CREATE TABLE identity_policy_associations (
    endpoint_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    region_id TEXT NOT NULL,
    policy_id TEXT NOT NULL,
    PRIMARY KEY (endpoint_id, service_id, region_id)
);
CREATE INDEX identity_policy_associations_policy ON identity_policy_associations (policy_id);
