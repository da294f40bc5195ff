package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/advice"
)

const (
	containerdSocket = "/run/containerd/containerd.sock"
	kubeletHealth    = "http://127.0.0.1:10248/healthz" // kubelet's default
	cniDir           = "/etc/cni/net.d"
	varDir           = "/var"
	controllersPath  = "/sys/fs/cgroup/cgroup.controllers"
)

// checkUnit fails unless the unit is active.
func (p *patient) checkUnit(ctx context.Context, unit string) error {
	advice := advice.Unit(unit) + " ovenbird-agent starts it in its turn: `ovenbird-agent status`."
	state, err := p.Units.ActiveState(ctx, unit)
	if err != nil {
		return fail(advice, "%w", err)
	}
	if state != "active" {
		return fail(advice, "%s.service is %s", unit, state)
	}
	return nil
}

func checkContainerd(ctx context.Context, p *patient) (string, error) {
	if err := p.checkUnit(ctx, "containerd"); err != nil {
		return "", err
	}
	if err := p.greet(ctx, containerdSocket); err != nil {
		return "", fail("containerd runs but does not answer: see `journalctl -u containerd`; `systemctl restart containerd` leaves containers running.", "%s: %w", containerdSocket, err)
	}
	return "active; answers at " + containerdSocket, nil
}

// greet opens an HTTP/2 connection, as gRPC does, and waits for the server's settings. Only
// that tells a server that answers from one whose socket the kernel still listens on.
func (p *patient) greet(ctx context.Context, socket string) error {
	conn, err := p.Network.DialContext(ctx, "unix", p.Root.Join(socket))
	if err != nil {
		return err
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return err
		}
	}
	// RFC 9113, 3.4: the client's preface, and an empty SETTINGS frame.
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	if _, err := io.WriteString(conn, preface); err != nil {
		return err
	}
	const settings = 4
	var header [9]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	if header[3] != settings {
		return errors.New("what answers does not speak gRPC")
	}
	return nil
}

func checkKubelet(ctx context.Context, p *patient) (string, error) {
	if err := p.checkUnit(ctx, "kubelet"); err != nil {
		return "", err
	}
	const unhealthy = "kubelet runs but does not call itself healthy: see `journalctl -u kubelet`."
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, kubeletHealth, nil)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{DialContext: p.Network.DialContext, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", fail(unhealthy, "%s: %w", kubeletHealth, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fail(unhealthy, "%s answers with %s", kubeletHealth, response.Status)
	}
	return "active; healthy", nil
}

func checkCNI(_ context.Context, p *patient) (string, error) {
	entries, err := os.ReadDir(p.Root.Join(cniDir)) // sorted by name: the first is the one in use
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fail(advice.PodNetwork, "%w", err)
	}
	for _, entry := range entries {
		if !slices.Contains([]string{".conflist", ".conf", ".json"}, filepath.Ext(entry.Name())) {
			continue
		}
		path := filepath.Join(cniDir, entry.Name())
		data, err := os.ReadFile(p.Root.Join(path))
		if err != nil {
			return "", fail(advice.PodNetwork, "%w", err)
		}
		var network struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(data, &network); err != nil {
			return "", fail("Remove or mend the file; containerd takes the first of the directory.", "%s: %w", path, err)
		}
		return fmt.Sprintf("%s: network %s", path, network.Name), nil
	}
	return "", fail(advice.PodNetwork, "no configuration in %s", cniDir)
}

// kubelet evicts pods when less than this is left, unless it is configured otherwise: its
// defaults for nodefs.available and nodefs.inodesFree.
const (
	leastBytes  = 10 // percent
	leastInodes = 5
)

func checkDisk(_ context.Context, p *patient) (string, error) {
	space, err := p.Space(varDir)
	if err != nil {
		return "", fail("See `findmnt --target "+varDir+"` and `journalctl -k`.", "look at %s: %w", varDir, err)
	}
	bytes, inodes := percent(space.FreeBytes, space.Bytes), percent(space.FreeInodes, space.Inodes)
	found := fmt.Sprintf("%s: %.1f of %.1f GB free (%d%%), %d%% of inodes", varDir, gigabytes(space.FreeBytes), gigabytes(space.Bytes), bytes, inodes)
	const evicts = "kubelet evicts pods below %d%%. " + advice.Space
	switch {
	case bytes < leastBytes:
		return "", fail(fmt.Sprintf(evicts, leastBytes), "%s", found)
	case inodes < leastInodes:
		return "", fail(fmt.Sprintf(evicts, leastInodes), "%s", found)
	}
	return found, nil
}

func percent(free, total uint64) uint64 {
	if total == 0 {
		return 100
	}
	return uint64(float64(free) / float64(total) * 100)
}

func gigabytes(bytes uint64) float64 { return float64(bytes) / 1e9 }

func checkCgroup(_ context.Context, p *patient) (string, error) {
	const controllers = "kubelet and containerd are configured for cgroup v2 with these controllers: see that the kernel's command line (`cat /proc/cmdline`) does not turn them off."
	data, err := os.ReadFile(p.Root.Join(controllersPath))
	if err != nil {
		return "", fail(controllers, "cgroup v2 is not mounted at /sys/fs/cgroup: %w", err)
	}
	there := strings.Fields(string(data))
	for _, controller := range []string{"cpu", "cpuset", "io", "memory", "pids"} {
		if !slices.Contains(there, controller) {
			return "", fail(controllers, "no controller %s; there are %s", controller, strings.Join(there, ", "))
		}
	}
	return "with " + strings.Join(there, ", "), nil
}
