package boot

import (
	"context"

	"github.com/ovenbird-dev/ovenbird/agent/systemd"
)

// Commands runs programs, each as a service unit of its own. Tests bring their own.
type Commands interface {
	// Run runs the program at path to its end, in "/", with nothing to read and its output
	// in the journal. It fails with a systemd.ScriptFailure when it did not end by itself.
	// When ctx ends first, it goes on.
	Run(ctx context.Context, unit, path string, environ []string) (exitStatus int, err error)
	// Await waits for one that Run has started since the machine started and returns what
	// Run would have. Found is false when there is none.
	Await(ctx context.Context, unit string) (exitStatus int, found bool, err error)
}

// SystemCommands runs them on this machine.
func SystemCommands() Commands {
	return systemd.Scripts{EnvironmentDir: "/run/ovenbird", Deadline: scriptDeadline}
}
