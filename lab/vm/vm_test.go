package vm

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/namespace"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestAMachineIsDescribedToQEMUAsEC2WouldShowIt(t *testing.T) {
	mac, _ := net.ParseMAC("02:aa:bb:cc:dd:ee")
	spec := Spec{
		Instance: "i-0123456789abcdef0", Image: "/images/ami-1.raw", Volume: "vol-0fedcba9876543210",
		Type: "t3.medium", VCPUs: 2, MemoryMiB: 4096, MAC: mac, Tap: "tap0",
	}
	for name, rate := range map[string]int{"arguments.golden": 0, "cold.golden": 5, "drives.golden": 0, "nics.golden": 0} {
		spec.Drives, spec.Volumes, spec.NICs = 0, nil, nil
		if name == "nics.golden" {
			spec.NICs = []NIC{{Interface: "eni-0123456789abcdef0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Tap: "eni6789abcdef0", Slot: 2}}
		}
		if name == "drives.golden" {
			spec.Drives, spec.Volumes = 2, []Drive{{Volume: "vol-0123456789abcdef0", Path: "/volumes/a,b.raw", Slot: 1}}
		}
		got := strings.Join(spec.arguments(TCG, "/fw/CODE.fd", rate), "\n") + "\n"
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("arguments differ from %s (-update rewrites it); got\n%s", golden, got)
		}
	}
}

// hypervisor runs real machines by software emulation.
func hypervisor(t *testing.T) Hypervisor {
	t.Helper()
	programs, err := FindPrograms()
	if err != nil {
		t.Skip(err)
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a tap")
	}
	return Hypervisor{Programs: programs, Accelerator: TCG}
}

func spec(t *testing.T, dir string) Spec {
	t.Helper()
	image := filepath.Join(t.TempDir(), "blank.raw")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return Spec{
		Instance: "i-0123456789abcdef0", Dir: dir, Image: image, Volume: "vol-0fedcba9876543210",
		Type: "t3.nano", VCPUs: 2, MemoryMiB: 128, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Tap: "obtest0",
	}
}

// start starts a machine in a namespace of its own, where its tap does no harm.
func start(t *testing.T, h Hypervisor, spec Spec) (*Machine, error) {
	t.Helper()
	name := fmt.Sprintf("ovenbird-vm-%d", os.Getpid())
	if err := namespace.Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = namespace.Delete(name) })
	var machine *Machine
	err := namespace.Do(name, func() (err error) {
		machine, err = h.Start(t.Context(), spec)
		return err
	})
	return machine, err
}

// longDir is longer than a socket's path may be.
func longDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func gone(t *testing.T, m *Machine) {
	t.Helper()
	select {
	case <-m.Gone():
	case <-time.After(30 * time.Second):
		t.Fatal("the machine is still there")
	}
}

func TestAMachineIsStartedAdoptedAndKilled(t *testing.T) {
	h := hypervisor(t)
	dir := longDir(t)
	ctx := t.Context()
	if _, err := h.Adopt(ctx, dir); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("adopt before start: %v", err)
	}
	first, err := start(t, h, spec(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(first.Kill)
	if err := first.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	// As when the lab's daemon dies: the kernel closes its connection.
	_ = first.qmp.conn.Close()

	cutShort, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := h.Adopt(cutShort, dir); err == nil || errors.Is(err, ErrNotRunning) {
		t.Errorf("adopt cut short: %v", err)
	}
	hidden := filepath.Join(dir, "hidden")
	if err := os.Rename(filepath.Join(dir, pidFile), hidden); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Adopt(ctx, dir); err == nil || errors.Is(err, ErrNotRunning) {
		t.Errorf("adopt without the pidfile: %v", err)
	}
	if err := os.Rename(hidden, filepath.Join(dir, pidFile)); err != nil {
		t.Fatal(err)
	}

	second, err := h.Adopt(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	if state, err := second.look(ctx); state != "running" || err != nil {
		t.Errorf("the adopted machine is %q, %v", state, err)
	}
	if err := second.PowerDown(ctx); err != nil {
		t.Errorf("power down: %v", err)
	}
	second.Kill()
	gone(t, second)
	gone(t, first)
	select {
	case <-second.Halted():
		t.Error("a killed machine is taken for one that powered off")
	default:
	}
	if _, err := h.Adopt(ctx, dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("adopt after the end: %v", err)
	}
	if err := RemoveFiles(dir); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, file := range left {
		if base := filepath.Base(file); base != logFile && base != consoleFile {
			t.Errorf("%s is left", base)
		}
	}
}

func TestAMachineStartsAgainOnTheVolumeThatItLeft(t *testing.T) {
	// A volume stays as it was made, whatever the rate has become.
	for name, rates := range map[string][2]int{"warm": {0, 5}, "cold": {5, 0}} {
		t.Run(name, func(t *testing.T) {
			h, s := hypervisor(t), spec(t, longDir(t))
			h.SnapshotRate = rates[0]
			first, err := start(t, h, s)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(first.Kill)
			first.Kill()
			gone(t, first)
			before, err := os.Stat(filepath.Join(s.Dir, diskFile))
			if err != nil {
				t.Fatal(err)
			}
			h.SnapshotRate = rates[1]
			var second *Machine
			err = namespace.Do(fmt.Sprintf("ovenbird-vm-%d", os.Getpid()), func() (err error) {
				second, err = h.Restart(t.Context(), s)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(second.Kill)
			if err := second.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			if after, err := os.Stat(filepath.Join(s.Dir, diskFile)); err != nil || !os.SameFile(before, after) {
				t.Errorf("the volume is another one: %v", err)
			}
			second.Kill()
			gone(t, second)
		})
	}
}

func TestTheInstanceStoreOutlivesAMachineAndNoMore(t *testing.T) {
	h, s := hypervisor(t), spec(t, longDir(t))
	s.Drives = 2
	drive := filepath.Join(s.Dir, driveFile(1))
	first, err := start(t, h, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(first.Kill)
	first.Kill()
	gone(t, first)
	file, err := os.OpenFile(drive, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString("data"); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	restart := func() string {
		var machine *Machine
		err := namespace.Do(fmt.Sprintf("ovenbird-vm-%d", os.Getpid()), func() (err error) {
			machine, err = h.Restart(t.Context(), s)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		machine.Kill()
		gone(t, machine)
		begin := make([]byte, 4)
		file, err := os.Open(drive)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.Read(begin); err != nil {
			t.Fatal(err)
		}
		return string(begin)
	}
	if got := restart(); got != "data" {
		t.Errorf("after a reboot the drive holds %q", got)
	}
	if err := RemoveDrives(s.Dir); err != nil {
		t.Fatal(err)
	}
	if got := restart(); got != "\x00\x00\x00\x00" {
		t.Errorf("after a stop the drive holds %q", got)
	}
	if err := RemoveFiles(s.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(drive); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the drive stays: %v", err)
	}
}

func TestADriveIsCountedWhileTheLabDrivesItsMachine(t *testing.T) {
	for name, rate := range map[string]int{"warm": 0, "cold": 5} {
		t.Run(name, func(t *testing.T) { countDrive(t, rate) })
	}
}

func countDrive(t *testing.T, rate int) {
	h := hypervisor(t)
	h.SnapshotRate = rate
	ctx, dir := t.Context(), longDir(t)
	if _, err := ReadStats(ctx, dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("before the start: %v", err)
	}
	s := spec(t, dir)
	// What the firmware looks at is not zero, or there would be nothing to fetch.
	if err := os.WriteFile(s.Image, bytes.Repeat([]byte{1}, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	machine, err := start(t, h, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(machine.Kill)
	if stats, err := ReadStats(ctx, dir); err != nil || stats != (DriveStats{}) {
		t.Errorf("before the first instruction: %+v, %v", stats, err)
	}
	if err := machine.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	// The firmware looks for something to boot.
	for deadline := time.Now().Add(time.Minute); ; {
		stats, err := ReadStats(ctx, dir)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("after a minute of firmware: %+v, %v", stats, err)
		}
		if stats.ReadBytes >= 512 && stats.ReadOperations > 0 && (rate == 0) == (stats.SnapshotBlocks == 0) {
			if stats.SnapshotBlocks*SnapshotBlock > 1<<20 {
				t.Errorf("more was fetched than the image has: %+v", stats)
			}
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	machine.Kill()
	gone(t, machine)
	if _, err := ReadStats(ctx, dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
}

func TestWhatQEMUSaysIsInTheErrorOfAFailedStart(t *testing.T) {
	h := hypervisor(t)
	s := spec(t, t.TempDir())
	s.MemoryMiB = 64 << 20 // 64 TiB
	_, err := start(t, h, s)
	if err == nil || !strings.Contains(err.Error(), "QEMU said: ") || !strings.Contains(err.Error(), "memory") {
		t.Errorf("got %v", err)
	}
}

func TestAMissingImageIsNamed(t *testing.T) {
	h := hypervisor(t)
	s := spec(t, t.TempDir())
	s.Image = "/no/such/image"
	if _, err := start(t, h, s); err == nil || !strings.Contains(err.Error(), "/no/such/image") {
		t.Errorf("got %v", err)
	}
}

func TestTheProbeDecidesWithAReason(t *testing.T) {
	h := hypervisor(t)
	accelerator, reason, err := Probe(context.Background(), h.Programs)
	if err != nil {
		t.Fatal(err)
	}
	if accelerator != KVM && accelerator != TCG || reason == "" {
		t.Errorf("%q because %q", accelerator, reason)
	}
	t.Logf("%s: %s", accelerator, reason)
}
