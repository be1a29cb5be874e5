package schema

import "sync"

// errorDetails is what servers attach to an error (google/rpc/error_details.proto):
// words for people, scrubbed as every free text is.
func errorDetails() api {
	return api{
		name: "errordetails", module: "google.golang.org/genproto/googleapis/rpc",
		shown: table{
			"google.rpc.ErrorInfo": {"reason" + freeText, "domain" + freeText, "metadata" + anyKey + freeText},
			"google.rpc.RetryInfo": {"retry_delay"},
			"google.rpc.DebugInfo": {"detail" + freeText, "stack_entries" + freeText},

			"google.rpc.QuotaFailure": {"violations"},
			"google.rpc.QuotaFailure.Violation": {"subject" + freeText, "description" + freeText, "quota_metric" + freeText, "quota_id" + freeText,
				"quota_value", "future_quota_value", "api_service" + freeText},
			"google.rpc.PreconditionFailure":           {"violations"},
			"google.rpc.PreconditionFailure.Violation": {"type" + freeText, "subject" + freeText, "description" + freeText},
			"google.rpc.BadRequest":                    {"field_violations"},
			"google.rpc.BadRequest.FieldViolation":     {"field" + freeText, "description" + freeText, "reason" + freeText, "localized_message"},

			"google.rpc.ResourceInfo":     {"resource_type" + freeText, "resource_name" + freeText, "owner" + freeText, "description" + freeText},
			"google.rpc.RequestInfo":      {"request_id" + freeText},
			"google.rpc.Help":             {"links"},
			"google.rpc.Help.Link":        {"description" + freeText, "url" + freeText},
			"google.rpc.LocalizedMessage": {"message" + freeText, "locale"},
			"google.protobuf.Duration":    {"seconds", "nanos"},
		},
	}
}

// errorMessages are the details that are known.
var errorMessages = sync.OnceValue(func() *compiled { return compileAPI(errorDetails()) })
