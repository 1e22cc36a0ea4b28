package handlers

import "github.com/fraiseql/observer/internal/secret"

// WebhookConfig is the table of an action with type = "webhook". Struct tags as in the configuration's other tables.
type WebhookConfig struct {
	URL              secret.String     `toml:"url" oneof:"url" doc:"address to post to; may hold placeholders in its path and query"`
	URLEnv           string            `toml:"url_env" oneof:"url" doc:"environment variable that holds the address"`
	Method           string            `toml:"method" default:"POST" enum:"POST,PUT,PATCH,DELETE,GET" doc:"HTTP method"`
	Headers          map[string]string `toml:"headers" doc:"extra request headers; values may hold placeholders"`
	BodyTemplate     string            `toml:"body_template" doc:"body, encoded as the Content-Type header says; default: the event as JSON"`
	SigningSecretEnv []string          `toml:"signing_secret_env" single:"true" doc:"environment variable that holds the secret to sign with (Standard Webhooks), or two of them while it changes"`
	TimeoutMS        int               `toml:"timeout_ms" min:"1" max:"3600000" doc:"time for one attempt, in milliseconds; default: performance.concurrent_timeout_ms"`
	Cacheable        bool              `toml:"cacheable" default:"false" doc:"skip a request when an identical one succeeded within redis.cache_ttl_secs; needs performance.enable_caching"`
	RateLimit        float64           `toml:"rate_limit" min:"0.001" max:"1000000" doc:"requests a second at most; who waits keeps its place"`
	MaxInFlight      int               `toml:"max_in_flight" min:"1" max:"10000" doc:"requests at the same time at most"`
	TLSCA            string            `toml:"tls_ca" doc:"file with the certificates to trust instead of the system's"`
	TLSCert          string            `toml:"tls_cert" doc:"file with the client certificate"`
	TLSKey           string            `toml:"tls_key" doc:"file with the key of the client certificate"`
}

// SlackConfig is the table of an action with type = "slack".
type SlackConfig struct {
	WebhookURL      secret.String `toml:"webhook_url" oneof:"url" doc:"address of the incoming webhook"`
	WebhookURLEnv   string        `toml:"webhook_url_env" oneof:"url" doc:"environment variable that holds the address"`
	MessageTemplate string        `toml:"message_template" required:"true" doc:"text in Slack's markup; what it inserts is escaped"`
	Channel         string        `toml:"channel" doc:"channel, where the webhook lets one choose"`
}

// EmailConfig is the table of an action with type = "email".
type EmailConfig struct {
	To           []string `toml:"to" single:"true" oneof:"to" doc:"recipients"`
	ToTemplate   string   `toml:"to_template" oneof:"to" doc:"recipients, with placeholders; a placeholder stands for one address"`
	CC           []string `toml:"cc" single:"true" doc:"recipients of a copy"`
	ReplyTo      string   `toml:"reply_to" doc:"address for answers"`
	Subject      string   `toml:"subject" required:"true" doc:"subject; may hold placeholders"`
	BodyTemplate string   `toml:"body_template" required:"true" doc:"plain text; may hold placeholders and blocks"`
	HTMLTemplate string   `toml:"html_template" doc:"the same as HTML; what it inserts is encoded for its place"`
}

// SQLConfig is the table of an action with type = "sql".
type SQLConfig struct {
	Function string `toml:"function" required:"true" doc:"function to call with the event as jsonb, as schema.name"`
	URLEnv   string `toml:"url_env" doc:"environment variable that holds the URL of its database; default: the transport's"`
}

// PublishConfig is the table of an action with type = "publish".
type PublishConfig struct {
	Topic        string `toml:"topic" required:"true" doc:"NATS subject that a stream takes, or Redis stream, which is never trimmed; placeholders have no place here"`
	Server       string `toml:"server" enum:"nats,redis" doc:"which server; needed where both are configured"`
	BodyTemplate string `toml:"body_template" doc:"payload as JSON, may hold placeholders; default: the event as JSON"`
}

// CacheConfig is the table of an action with type = "cache".
type CacheConfig struct {
	KeyPattern string `toml:"key_pattern" required:"true" doc:"key, or pattern of keys with * ? [ ]; may hold placeholders, in whose text wildcards mean themselves"`
	Action     string `toml:"action" default:"invalidate" enum:"invalidate" doc:"what happens to the keys: they are deleted"`
}

// SMTPConfig is the [smtp] table.
type SMTPConfig struct {
	Host        string `toml:"host" default:"localhost" doc:"name of the mail server"`
	Port        int    `toml:"port" default:"587" min:"1" max:"65535" doc:"port of the mail server"`
	TLS         string `toml:"tls" default:"start_tls" enum:"start_tls,tls,none" doc:"how the connection is encrypted"`
	From        string `toml:"from" doc:"sender, such as Orders <orders@example.com>"`
	UsernameEnv string `toml:"username_env" doc:"environment variable that holds the user name"`
	PasswordEnv string `toml:"password_env" doc:"environment variable that holds the password"`
	TimeoutSecs int    `toml:"timeout_secs" default:"30" min:"1" max:"3600" doc:"seconds to send one mail"`
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
