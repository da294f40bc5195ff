package boot

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// hostPhases follow on an instance that hosts control planes. The agent does what every
// instance needs and hands over to `ovenbird host`, which the image has for that.
func (n *node) hostPhases() []Phase {
	return []Phase{
		{Name: "scripts", Attempt: scriptsAttempt, Run: n.runScripts},
		{Name: "files", Attempt: time.Minute, Run: n.writeFiles},
		// It waits for as long as another instance has the volume, and tells of it in its log.
		{Name: "host", Needs: []string{"scripts", "files"}, Attempt: 10 * time.Minute, Run: n.startUnit(hostUnit)},
		{Name: "control-planes", Needs: []string{"host"}, Attempt: 5 * time.Minute, Run: n.startUnit(serviceUnit)},
	}
}

// afterHosting are the phases that follow once the service answers.
func (n *node) afterHosting(Status) []Phase { return n.signalPhase() }

// readHost ends the reading of the configuration on an instance that is no node.
func (n *node) readHost(ctx context.Context) error {
	n.env = n.facts.environment()
	if err := n.listen(ctx); err != nil {
		return err
	}
	n.describe()
	return nil
}

// hostFiles are the files of an instance that hosts control planes.
func (f Facts) hostFiles() (Files, error) {
	data, err := json.MarshalIndent(f.UserData.Host, "", "  ")
	if err != nil {
		return Files{}, fmt.Errorf("encode %s: %w", nodeconfig.HostPath, err)
	}
	files := f.machineFiles()
	files.Host = []rootfs.File{{Path: nodeconfig.HostPath, Data: append(data, '\n')}}
	return files, nil
}
