-- What the service may do in the database of the audit log: add, and keep the views. The tables belong to whoever ran
-- `broker init`; so do pruning, migrating and rebuilding. Run it again after `broker audit migrate`.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO audit_service;
GRANT INSERT ON events, nodes, checkpoints, open_requests, leases, host_keys, followers TO audit_service;
GRANT UPDATE ON head, host_keys, followers TO audit_service;
GRANT DELETE ON open_requests, leases TO audit_service;
