// Package cli gives every Ovenbird command the same manners: results on standard
// output, logs on standard error, one line for an error, and exit status 0 for done,
// 1 for failed and 2 for wrong usage.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"
)

// usageError marks a mistake in how a command was called.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// Usage marks err as a mistake in how the command was called: exit status 2. A nil error stays nil.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// IsUsage says that err is a mistake in how the command was called.
func IsUsage(err error) bool {
	var usage usageError
	return errors.As(err, &usage)
}

// Run executes root with os.Args and returns the process's exit status. SIGINT and
// SIGTERM cancel the command's context; a second one ends the process.
func Run(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root.SilenceErrors = true
	root.SilenceUsage = true
	root.AddCommand(versionCommand(root.Name()))
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usage(err) })
	markArgumentErrors(root)

	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", root.Name(), strings.TrimSpace(err.Error()))
	// Cobra reports an unknown command with a plain error.
	if IsUsage(err) || strings.HasPrefix(err.Error(), "unknown command") || strings.HasPrefix(err.Error(), "required flag") {
		return 2
	}
	return 1
}

// markArgumentErrors makes the argument checks of cmd and its subcommands wrong usage.
func markArgumentErrors(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return Usage(check(cmd, args)) }
	}
	for _, sub := range cmd.Commands() {
		markArgumentErrors(sub)
	}
}

// Logger returns the process's logger: readable lines on a terminal, JSON otherwise,
// always on standard error.
func Logger() (*zap.Logger, error) {
	config := zap.NewProductionConfig()
	config.Sampling = nil
	config.DisableStacktrace = true
	config.EncoderConfig.EncodeTime = zapcore.RFC3339TimeEncoder
	config.EncoderConfig.TimeKey = "time"
	if term.IsTerminal(int(os.Stderr.Fd())) {
		config.Encoding = "console"
		config.DisableCaller = true
		config.EncoderConfig.EncodeLevel = zapcore.CapitalColorLevelEncoder
		config.EncoderConfig.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05")
	}
	logger, err := config.Build()
	if err != nil {
		return nil, fmt.Errorf("start logging: %w", err)
	}
	return logger, nil
}

// Output is the value of a command's --output flag: "table" or "json".
type Output struct{ format string }

// AddOutputFlag gives cmd the --output flag.
func AddOutputFlag(cmd *cobra.Command) *Output {
	o := &Output{format: "table"}
	cmd.Flags().VarP(o, "output", "o", "how to print the result: table or json")
	return o
}

// String, Set and Type make Output a flag value.
func (o *Output) String() string { return o.format }

// Set accepts table and json.
func (o *Output) Set(s string) error {
	if s != "table" && s != "json" {
		return fmt.Errorf("want table or json")
	}
	o.format = s
	return nil
}

// Type names the value in help texts.
func (o *Output) Type() string { return "format" }

// Print writes value as indented JSON, or calls table for people.
func (o *Output) Print(w io.Writer, value any, table func(io.Writer) error) error {
	if o.format == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(value)
	}
	return table(w)
}
