package cmd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// choice is the value of a flag that takes one of a few words.
type choice struct {
	value   string
	allowed []string
}

var _ pflag.Value = (*choice)(nil)

// String implements pflag.Value.
func (c *choice) String() string { return c.value }

// Type implements pflag.Value: it is what --help shows.
func (c *choice) Type() string { return "word" }

// Set implements pflag.Value.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.allowed, s) {
		return fmt.Errorf("write one of %s", strings.Join(c.allowed, ", "))
	}
	c.value = s
	return nil
}

// formatFlag adds --format to a command that prints data.
func formatFlag(cmd *cobra.Command) *choice {
	c := &choice{value: "text", allowed: []string{"text", "json"}}
	cmd.Flags().Var(c, "format", "format of the data: text, json")
	return c
}

// json reports whether --format json was given.
func (c *choice) json() bool { return c.value == "json" }
