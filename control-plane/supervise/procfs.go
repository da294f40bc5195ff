package supervise

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// info is what /proc says about a process.
type info struct {
	started uint64 // ticks after boot
	zombie  bool
	args    []string
}

func inspect(pid int) (*info, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return nil, fmt.Errorf("look at process %d: %w", pid, err)
	}
	now, err := parseStat(string(stat))
	if err != nil {
		return nil, fmt.Errorf("look at process %d: %w", pid, err)
	}
	cmdline, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return nil, fmt.Errorf("look at process %d: %w", pid, err)
	}
	now.args = strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")
	return now, nil
}

// parseStat reads /proc/PID/stat, proc_pid_stat(5): field 3 is the state, 22 the start time.
// Field 2 is the program's name in parentheses and may hold anything, so the rest is
// counted from its last parenthesis.
func parseStat(stat string) (*info, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return nil, fmt.Errorf("unexpected stat %q", stat)
	}
	started, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("unexpected start time: %w", err)
	}
	return &info{started: started, zombie: fields[0] == "Z" || fields[0] == "X"}, nil
}

func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the machine's boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// marked finds the processes whose marker lies below dir, by marker.
func marked(dir string) (map[string][]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	found := map[string][]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if name := markerOf(pid); strings.HasPrefix(name, dir+"/") {
			found[name] = append(found[name], pid)
		}
	}
	return found, nil
}

// markerOf returns the value of a process's marker. It is "" when the process has none, has
// ended meanwhile, or is another user's.
func markerOf(pid int) string {
	environ, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return ""
	}
	for variable := range bytes.SplitSeq(environ, []byte{0}) {
		if value, ok := bytes.CutPrefix(variable, []byte(marker+"=")); ok {
			return string(value)
		}
	}
	return ""
}
