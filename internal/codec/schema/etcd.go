package schema

import "google.golang.org/protobuf/reflect/protoreflect"

// etcd is etcd v3 (go.etcd.io/etcd/api/v3), which k3s' kine speaks on a Unix
// socket: everything that the cluster stores. A key shows, such as
// /registry/secrets/shop/db; a value never does. Of the services that manage an
// etcd, method and sizes are enough.
func etcd() api {
	return api{
		name: "etcd", module: "go.etcd.io/etcd/api/v3",
		services: []string{
			"etcdserverpb.KV", "etcdserverpb.Watch", "etcdserverpb.Lease",
			"etcdserverpb.Cluster", "etcdserverpb.Maintenance", "etcdserverpb.Auth",
		},
		shown: table{
			"etcdserverpb.RangeRequest": {"key", "range_end", "limit", "revision", "keys_only", "count_only", "serializable",
				"min_mod_revision", "max_mod_revision"},
			"etcdserverpb.RangeResponse":       {"header", "count", "more", "kvs"},
			"etcdserverpb.RangeStreamResponse": {"range_response"},
			"etcdserverpb.PutRequest":          {"key", "lease", "prev_kv", "ignore_value", "ignore_lease"},
			"etcdserverpb.PutResponse":         {"header", "prev_kv"},
			"etcdserverpb.DeleteRangeRequest":  {"key", "range_end", "prev_kv"},
			"etcdserverpb.DeleteRangeResponse": {"header", "deleted", "prev_kvs"},
			"etcdserverpb.CompactionRequest":   {"revision", "physical"},
			"etcdserverpb.CompactionResponse":  {"header"},

			"etcdserverpb.TxnRequest":  {"compare", "success", "failure"},
			"etcdserverpb.TxnResponse": {"header", "succeeded", "responses"},
			"etcdserverpb.Compare":     {"key", "range_end", "target", "result", "version", "create_revision", "mod_revision", "lease"},
			"etcdserverpb.RequestOp":   {"request_range", "request_put", "request_delete_range", "request_txn"},
			"etcdserverpb.ResponseOp":  {"response_range", "response_put", "response_delete_range", "response_txn"},

			"etcdserverpb.WatchRequest": {"create_request", "cancel_request", "progress_request"},
			"etcdserverpb.WatchCreateRequest": {"key", "range_end", "watch_id", "start_revision", "progress_notify", "prev_kv",
				"fragment", "filters"},
			"etcdserverpb.WatchCancelRequest":   {"watch_id"},
			"etcdserverpb.WatchProgressRequest": {},
			"etcdserverpb.WatchResponse": {"header", "watch_id", "created", "canceled", "compact_revision", "cancel_reason" + freeText,
				"fragment", "events"},

			"etcdserverpb.LeaseGrantRequest":       {"ID", "TTL"},
			"etcdserverpb.LeaseGrantResponse":      {"header", "ID", "TTL", "error" + freeText},
			"etcdserverpb.LeaseRevokeRequest":      {"ID"},
			"etcdserverpb.LeaseRevokeResponse":     {"header"},
			"etcdserverpb.LeaseKeepAliveRequest":   {"ID"},
			"etcdserverpb.LeaseKeepAliveResponse":  {"header", "ID", "TTL"},
			"etcdserverpb.LeaseTimeToLiveRequest":  {"ID", "keys"},
			"etcdserverpb.LeaseTimeToLiveResponse": {"header", "ID", "TTL", "grantedTTL", "keys"},
			"etcdserverpb.LeaseLeasesResponse":     {"header", "leases"},
			"etcdserverpb.LeaseStatus":             {"ID"},

			"etcdserverpb.ResponseHeader": {"revision", "cluster_id", "member_id", "raft_term"},
			"mvccpb.KeyValue":             {"key", "create_revision", "mod_revision", "version", "lease"},
			"mvccpb.Event":                {"type", "kv", "prev_kv"},
		},
		never: []protoreflect.FullName{
			"etcdserverpb.PutRequest.value", "etcdserverpb.Compare.value", "mvccpb.KeyValue.value", "etcdserverpb.SnapshotResponse.blob",
			"etcdserverpb.AuthenticateRequest.password", "etcdserverpb.AuthenticateResponse.token",
			"etcdserverpb.AuthUserAddRequest.password", "etcdserverpb.AuthUserAddRequest.hashedPassword",
			"etcdserverpb.AuthUserChangePasswordRequest.password", "etcdserverpb.AuthUserChangePasswordRequest.hashedPassword",
		},
		about: about{
			"etcdserverpb.KV/Range":       {{factSubject, "request.key"}},
			"etcdserverpb.KV/RangeStream": {{factSubject, "request.key"}},
			"etcdserverpb.KV/Put":         {{factSubject, "request.key"}},
			"etcdserverpb.KV/DeleteRange": {{factSubject, "request.key"}},
			"etcdserverpb.KV/Txn":         {{factSubject, "request.compare.key"}},
			"etcdserverpb.Watch/Watch":    {{factSubject, "request.create_request.key"}},
		},
	}
}
