package boot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/agent/systemd"
)

const (
	// scriptsDir holds, by instance, the scripts of user-data and a marker for each.
	// Markers that an image was made with are another instance's.
	scriptsDir = "/var/lib/ovenbird/scripts"
	// scriptDeadline is how long one script may run before it is killed.
	scriptDeadline = 10 * time.Minute
	// scriptsAttempt is never reached: scripts have their own deadlines, and user-data has
	// no room for a hundred.
	scriptsAttempt = 24 * time.Hour
)

// ScriptStatus is what became of a script of user-data.
type ScriptStatus struct {
	Name       string   `json:"name"` // the part of user-data
	SHA256     string   `json:"sha256"`
	ExitStatus *int     `json:"exitStatus,omitempty"` // absent when it did not end by itself
	Error      string   `json:"error,omitempty"`      // why it did not
	Seconds    *float64 `json:"seconds,omitempty"`    // how long it took
}

// failure says what went wrong, if anything.
func (s ScriptStatus) failure() string {
	switch {
	case s.Error != "":
		return s.Error
	case s.ExitStatus != nil && *s.ExitStatus != 0:
		return fmt.Sprintf("exit status %d", *s.ExitStatus)
	default:
		return ""
	}
}

// warning is what is told of one that failed.
func (s ScriptStatus) warning() string { return "script " + s.Name + ": " + s.failure() }

// runScripts runs the scripts of user-data in their order, each once in the life of the
// instance. One that fails is told of and nothing more: a node that joins without it can
// be looked at. An error is the agent's own.
func (n *node) runScripts(ctx context.Context, tell func(string)) error {
	var results []ScriptStatus
	times := map[string]int{}
	for _, script := range n.facts.UserData.Scripts {
		if err := ctx.Err(); err != nil {
			return err // before a marker says that the next one has begun
		}
		sum := sha256.Sum256(script.Body)
		digest := hex.EncodeToString(sum[:])
		// By content, so that a script that comes before it later does not make it run
		// again; the same one twice runs twice.
		times[digest]++
		path := fmt.Sprintf("%s/%s/%s-%d", scriptsDir, n.facts.Instance.ID, digest[:16], times[digest])
		tell(script.Name)
		result, err := n.runScript(ctx, path, script, digest)
		if err != nil {
			return fmt.Errorf("script %s: %w", script.Name, err)
		}
		results = append(results, result)
		n.runner.describe(func(s *Status) {
			s.Scripts = slices.Clone(results)
			if result.failure() != "" {
				s.warn(result.warning())
			}
		})
	}
	return nil
}

// interrupted is what a marker says of a script until its end is known.
const interrupted = "was interrupted and does not run again"

// runScript runs a script unless a marker says that it has been run. One that an earlier
// process of the agent has started is waited for.
func (n *node) runScript(ctx context.Context, path string, script nodeconfig.Script, digest string) (ScriptStatus, error) {
	markerPath := path + ".json"
	unit := "ovenbird-script-" + filepath.Base(path) + ".service"
	log := n.Log.With(zap.String("script", script.Name), zap.String("unit", unit))
	started := n.Clock.SinceBoot()
	result, err := readMarker(n.Root, markerPath)
	if err == nil && result.Error == interrupted {
		status, found, err := n.Commands.Await(ctx, unit)
		if found {
			return n.scriptEnded(ctx, log, markerPath, result, status, err)
		}
		if err != nil {
			return result, err
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		if failure := result.failure(); failure != "" {
			log.Warn("script has failed at an earlier start", zap.String("error", failure))
		}
		return result, err
	}
	// The marker comes first: a script that restarts the machine must not do so for ever.
	result = ScriptStatus{Name: script.Name, SHA256: digest, Error: interrupted}
	if err := n.writeMarker(markerPath, result); err != nil {
		return result, err
	}
	if err := n.Root.Apply(rootfs.File{Path: path, Mode: 0o700, Data: script.Body}); err != nil {
		// It has not run, so it may.
		return result, errors.Join(err, n.Root.Apply(rootfs.File{Path: markerPath}))
	}
	log.Info("script starts", zap.String("path", path))
	status, err := n.Commands.Run(ctx, unit, n.Root.Join(path), n.env.list())
	result.Seconds = seconds(n.Clock.SinceBoot() - started)
	var failure systemd.ScriptFailure
	if err != nil && ctx.Err() == nil && !errors.As(err, &failure) {
		// systemd's trouble. One that has not been started may run at the next try.
		if _, found, awaitErr := n.Commands.Await(ctx, unit); awaitErr == nil && !found {
			err = errors.Join(err, n.Root.Apply(rootfs.File{Path: markerPath}))
		}
		return result, err
	}
	return n.scriptEnded(ctx, log, markerPath, result, status, err)
}

// scriptEnded writes down how a script has ended, unless ctx has first.
func (n *node) scriptEnded(ctx context.Context, log *zap.Logger, markerPath string, result ScriptStatus, status int, err error) (ScriptStatus, error) {
	var ended systemd.ScriptFailure
	switch {
	case err == nil:
		result.Error, result.ExitStatus = "", &status
	case ctx.Err() != nil:
		return result, ctx.Err() // the marker says so already
	case errors.As(err, &ended):
		result.Error = oneLine(err.Error())
	default:
		return result, err // systemd's trouble: ask again
	}
	if failure := result.failure(); failure != "" {
		log.Warn("script failed", zap.String("error", failure))
		n.reporter.tell(n.Clock.SinceBoot().Seconds(), "script %s failed: %s", result.Name, failure)
	} else {
		log.Info("script done")
	}
	return result, n.writeMarker(markerPath, result)
}

// readMarker fails with fs.ErrNotExist only when there is none; a broken one still says
// that the script was run.
func readMarker(root rootfs.Root, path string) (ScriptStatus, error) {
	data, err := os.ReadFile(root.Join(path))
	if err != nil {
		return ScriptStatus{}, err
	}
	var result ScriptStatus
	if err := json.Unmarshal(data, &result); err != nil {
		result.Error = fmt.Sprintf("has run, but %s cannot be read: %v", path, err)
	}
	return result, nil
}

func (n *node) writeMarker(path string, result ScriptStatus) error {
	data, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return err
	}
	return n.Root.Apply(rootfs.File{Path: path, Mode: 0o600, Data: append(data, '\n')})
}
