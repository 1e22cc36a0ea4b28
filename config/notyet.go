package config

// What the configuration names and this version cannot do. It is refused, never accepted and ignored: whoever builds
// one of these deletes its line.
var (
	notYetValues = map[string][]string{
		"transport.transport":        {"nats", "redis"},
		"transport.run_bridge":       {"true"},
		"transport.run_executors":    {"false"},
		"performance.enable_dedup":   {"true"},
		"performance.enable_caching": {"true"},
		"observers.on_retry":         {"hold"},
	}
	notYetActions = []string{"slack", "email", "sql", "database", "publish", "cache"}
	notYetKeys    = map[string][]string{ // of an action, by its type
		"webhook": {"signing_secret_env", "cacheable", "rate_limit", "max_in_flight", "tls_ca", "tls_cert", "tls_key"},
	}
)
