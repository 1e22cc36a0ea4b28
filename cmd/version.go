package cmd

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker: -ldflags "-X github.com/fraiseql/observer/cmd.version=v1.2.3".
var version = ""

// build says what the binary was built from.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // the commit's files were changed
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (b build) String() string {
	commit := ""
	if b.Commit != "" {
		commit = "commit " + b.Commit + ", "
		if b.Modified {
			commit = "commit " + b.Commit + " with changes, "
		}
	}
	return fmt.Sprintf("observer %s (%s%s, %s)", b.Version, commit, b.Go, b.Platform)
}

func buildInfo() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b.named("")
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value[:min(len(s.Value), 12)]
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b.named(info.Main.Version)
}

// named fills in the version that the module system knows, where the linker set none.
func (b build) named(module string) build {
	if b.Version == "" {
		b.Version = module
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "dev"
	}
	return b
}

func (p *program) versionCommand() *cobra.Command {
	var format *choice
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print what this binary was built from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format.json() {
				return p.printJSON(buildInfo())
			}
			_, err := fmt.Fprintln(p.out, buildInfo())
			return err
		},
	}
	format = formatFlag(cmd)
	return cmd
}
