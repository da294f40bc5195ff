package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/lab/daemon"
	"github.com/ovenbird-dev/ovenbird/lab/lifecycle"
)

// daemonCommand is what `up` starts inside the namespace.
func daemonCommand(p *place) *cobra.Command {
	return &cobra.Command{
		Use:     "daemon",
		Short:   "The lab's own process; `up` starts it",
		Example: `  ovenbird-lab up`,
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := p.dir()
			if err != nil {
				return err
			}
			proxy := os.NewFile(lifecycle.ProxyFD, "proxy")
			listener, err := net.FileListener(proxy)
			if err != nil {
				return errors.New("this command is for `ovenbird-lab up` to start")
			}
			_ = proxy.Close()
			logger, err := cli.Logger()
			if err != nil {
				return err
			}
			pipe := os.NewFile(lifecycle.ReadyFD, "ready")
			tell := sync.OnceFunc(func() {
				_, _ = pipe.WriteString(lifecycle.Ready)
				_ = pipe.Close()
			})
			err = daemon.Run(cmd.Context(), daemon.Options{Plan: p.plan, Dir: dir, Proxy: listener, Ready: tell, Logger: logger})
			if err != nil {
				return fmt.Errorf("the lab's daemon: %w", err)
			}
			return nil
		},
	}
}
