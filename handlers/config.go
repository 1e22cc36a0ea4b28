package handlers

import "github.com/fraiseql/observer/internal/secret"

// WebhookConfig is the table of an action with type = "webhook". Struct tags as in the configuration's other tables.
type WebhookConfig struct {
	URL          secret.String     `toml:"url" oneof:"url" doc:"address to post to; may hold placeholders in its path and query"`
	URLEnv       string            `toml:"url_env" oneof:"url" doc:"environment variable that holds the address"`
	Method       string            `toml:"method" default:"POST" enum:"POST,PUT,PATCH,DELETE,GET" doc:"HTTP method"`
	Headers      map[string]string `toml:"headers" doc:"extra request headers; values may hold placeholders"`
	BodyTemplate string            `toml:"body_template" doc:"body, encoded as the Content-Type header says; default: the event as JSON"`
	TimeoutMS    int               `toml:"timeout_ms" min:"1" max:"3600000" doc:"time for one attempt, in milliseconds; default: performance.concurrent_timeout_ms"`
}

// LogConfig is the table of an action with type = "log".
type LogConfig struct {
	MessageTemplate string `toml:"message_template" required:"true" doc:"text to log; may hold placeholders"`
	Level           string `toml:"level" default:"info" enum:"debug,info,warn,error" doc:"level of the log line"`
}

// SecurityConfig is the [security] table: which addresses actions may reach.
type SecurityConfig struct {
	PrivateNetworks string   `toml:"private_networks" default:"static" enum:"static,never,always" doc:"may actions reach private addresses? static: only where the file names one"`
	AllowCIDRs      []string `toml:"allow_cidrs" doc:"networks that actions may reach besides"`
}
