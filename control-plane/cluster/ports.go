package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
)

// Local ports are chosen below the range (32768 and up on Linux) from which outgoing
// connections get theirs, so that none sits on a component's port while it restarts.
const (
	firstLocalPort = 20000
	lastLocalPort  = 29999
)

// EnsurePorts returns the ports on 127.0.0.1 kept in the file path, by name, and chooses
// those that are missing. With idle, nothing of the owner runs: then a kept port that
// somebody else listens on is chosen again. taken are ports to stay away from.
func EnsurePorts(path string, names []string, idle bool, taken map[uint16]bool) (map[string]uint16, error) {
	kept := map[string]uint16{}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read ports: %w", err)
	}
	if err == nil {
		if err := json.Unmarshal(data, &kept); err != nil {
			return nil, fmt.Errorf("read ports in %s: %w", path, err)
		}
	}
	changed := false
	for _, name := range names {
		if port := kept[name]; port != 0 && (!idle || listenable(port)) {
			continue
		}
		port, err := choosePort(func(port uint16) bool {
			return !taken[port] && !slices.Contains(values(kept), port) && listenable(port)
		})
		if err != nil {
			return nil, err
		}
		kept[name], changed = port, true
	}
	if !changed {
		return kept, nil
	}
	if data, err = json.Marshal(kept); err != nil {
		return nil, fmt.Errorf("encode ports: %w", err)
	}
	if err := renameio.WriteFile(path, data, 0o600); err != nil {
		return nil, fmt.Errorf("write ports: %w", err)
	}
	return kept, nil
}

// KeptPort returns a port that the etcd or cluster of dir has.
func KeptPort(dir, name string) (uint16, error) {
	kept := map[string]uint16{}
	data, err := os.ReadFile(filepath.Join(dir, portsFile))
	if err == nil {
		err = json.Unmarshal(data, &kept)
	}
	if err == nil && kept[name] == 0 {
		err = errors.New("it has none yet")
	}
	if err != nil {
		return 0, fmt.Errorf("find the port of %s: %w", name, err)
	}
	return kept[name], nil
}

// choosePort tries the range from a random place, so that services that start together on
// one machine do not meet.
func choosePort(free func(uint16) bool) (uint16, error) {
	count := lastLocalPort - firstLocalPort + 1
	start := rand.N(count)
	for i := range count {
		if port := uint16(firstLocalPort + (start+i)%count); free(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port on 127.0.0.1 between %d and %d is free", firstLocalPort, lastLocalPort)
}

func listenable(port uint16) bool {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

// portsOfOthers collects what the other clusters of a service keep, running or not.
func portsOfOthers(stateDir, name string) map[uint16]bool {
	taken := map[uint16]bool{}
	files, _ := filepath.Glob(filepath.Join(stateDir, "clusters", "*", portsFile))
	for _, file := range files {
		if filepath.Dir(file) == Dir(stateDir, name) {
			continue
		}
		// A file that cannot be read keeps nobody else from working.
		data, err := os.ReadFile(file)
		var ports map[string]uint16
		if err == nil && json.Unmarshal(data, &ports) == nil {
			for _, port := range ports {
				taken[port] = true
			}
		}
	}
	return taken
}

const portsFile = "ports.json"

func values(ports map[string]uint16) []uint16 {
	var list []uint16
	for _, port := range ports {
		list = append(list, port)
	}
	return list
}
