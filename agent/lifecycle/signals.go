package lifecycle

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"strings"
	"sync"

	"github.com/ovenbird-dev/ovenbird/agent/awscall"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// Versions of the two APIs.
const (
	cloudFormationVersion = "2010-05-15"
	autoScalingVersion    = "2011-01-01"
)

// sentPath is where the agent keeps what it has told whom, across starts of the machine.
const sentPath = "/var/lib/ovenbird/signals.json"

// sent is what was told. An image made of a node brings along that of another instance.
type sent struct {
	Instance string `json:"instance"`
	Stack    string `json:"stack,omitempty"` // the status
	Hook     string `json:"hook,omitempty"`  // where the launch hook let the instance go
}

// Signals tells those who wait for the instance how it comes up, each thing once.
type Signals struct {
	Root           rootfs.Root
	Instance       string
	Listeners      Listeners
	CloudFormation awscall.Service
	AutoScaling    awscall.Service

	mu sync.Mutex
}

// Any says whether somebody waits.
func (s *Signals) Any() bool { return s.Listeners.Resource != "" || s.Listeners.LaunchHook != "" }

// Ready tells that the Node is Ready.
func (s *Signals) Ready(ctx context.Context) error {
	return errors.Join(s.stack(ctx, "SUCCESS"), s.hook(ctx, "CONTINUE", "in-service"))
}

// Warm tells that the instance may go to the warm pool.
func (s *Signals) Warm(ctx context.Context) error { return s.hook(ctx, "CONTINUE", "warm-pool") }

// Failed tells that the node cannot come up.
func (s *Signals) Failed(ctx context.Context) error {
	return errors.Join(s.stack(ctx, "FAILURE"), s.hook(ctx, "ABANDON", "abandoned"))
}

// Leave lets Auto Scaling end an instance that has no pods to move.
func (s *Signals) Leave(ctx context.Context) error {
	if s.Listeners.TerminationHook == "" {
		return nil
	}
	return complete(ctx, s.AutoScaling, s.Listeners.Group, s.Listeners.TerminationHook, s.Instance, "CONTINUE")
}

func (s *Signals) stack(ctx context.Context, status string) error {
	if s.Listeners.Resource == "" {
		return nil
	}
	return s.once(func(told *sent) *string { return &told.Stack }, status, func() error {
		return nobodyWaits(s.CloudFormation.Query(ctx, cloudFormationVersion, "SignalResource", url.Values{
			"StackName": {s.Listeners.Stack}, "LogicalResourceId": {s.Listeners.Resource}, "UniqueId": {s.Instance}, "Status": {status},
		}))
	})
}

func (s *Signals) hook(ctx context.Context, result, destination string) error {
	if s.Listeners.LaunchHook == "" {
		return nil
	}
	return s.once(func(told *sent) *string { return &told.Hook }, destination, func() error {
		return complete(ctx, s.AutoScaling, s.Listeners.Group, s.Listeners.LaunchHook, s.Instance, result)
	})
}

// complete ends the wait of a group's hook for an instance.
func complete(ctx context.Context, autoScaling awscall.Service, group, hook, instance, result string) error {
	return nobodyWaits(autoScaling.Query(ctx, autoScalingVersion, "CompleteLifecycleAction", url.Values{
		"AutoScalingGroupName": {group}, "LifecycleHookName": {hook}, "InstanceId": {instance}, "LifecycleActionResult": {result},
	}))
}

// once calls tell unless field says that value was told already. A process killed between
// the call and the file tells it again, which nobodyWaits takes for told.
func (s *Signals) once(field func(*sent) *string, value string, tell func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var told sent
	if err := readJSON(s.Root, sentPath, &told); err != nil && !errors.Is(err, fs.ErrNotExist) {
		told = sent{} // a file that cannot be read is written anew
	}
	if told.Instance != s.Instance {
		told = sent{Instance: s.Instance}
	}
	if *field(&told) == value {
		return nil
	}
	if err := tell(); err != nil {
		return err
	}
	*field(&told) = value
	file, err := jsonFile(sentPath, told)
	if err != nil {
		return err
	}
	return s.Root.Apply(file)
}

// forgetHook makes the launch hook be told anew: an instance that returns to the warm pool
// leaves it through the hook again.
func forgetHook(root rootfs.Root) error {
	var told sent
	if err := readJSON(root, sentPath, &told); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	told.Hook = ""
	file, err := jsonFile(sentPath, told)
	if err != nil {
		return err
	}
	return root.Apply(file)
}

// nobodyWaits drops the refusals that say that the answer was given, or came too late:
// another try would hear the same.
func nobodyWaits(err error) error {
	var refused *awscall.Error
	if !errors.As(err, &refused) || refused.Code != "ValidationError" {
		return err
	}
	for _, said := range []string{"No active Lifecycle Action", "already exists", "cannot be signaled"} {
		if strings.Contains(refused.Message, said) {
			return nil
		}
	}
	return err
}
