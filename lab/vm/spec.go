package vm

import (
	"crypto/sha256"
	"fmt"
	"net"
	"slices"

	"github.com/google/uuid"
)

// Spec is the virtual machine of one instance.
type Spec struct {
	Instance  string // i-..., which the guest finds in its DMI tables
	Dir       string // the instance's own directory; must exist
	Image     string // raw disk that the root volume starts as
	UefiData  string // file with the image's firmware variables, as RegisterImage takes them; empty: none
	Volume    string // vol-..., which the guest finds as the drive's serial number
	VolumeGiB int    // 0: as large as the image
	Type      string // t3.medium, ...: the guest's DMI product name
	VCPUs     int
	MemoryMiB int
	Drives    int     // of the instance store
	Volumes   []Drive // attached besides the root volume
	MAC       net.HardwareAddr
	Tap       string // the interface that QEMU makes for the guest's first network device
	NICs      []NIC  // attached besides the first
}

// Files inside Spec.Dir. QEMU runs in that directory, which keeps every path short enough
// for a socket and free of the commas that QEMU's options are split at.
const (
	diskFile    = "disk.qcow2"
	fetchedFile = "fetched.qcow2"
	varsFile    = "vars.fd"
	socketFile  = "qmp.sock"
	statsFile   = "stats.sock"
	pidFile     = "qemu.pid"
	logFile     = "qemu.log"
	consoleFile = "console.log"
)

// rootDrive is QEMU's name for the root volume.
const rootDrive = "root"

// Accelerators that New accepts.
const (
	KVM = "kvm"
	TCG = "tcg" // QEMU's software emulation
)

// hardware is what makes a machine start the same way in a probe and for an instance.
func hardware(accelerator, firmware string, secureBoot bool) []string {
	accel, machine := accelerator, []string{"-machine", "q35"}
	if accelerator == TCG {
		accel += ",thread=multi"
	}
	if secureBoot {
		// Only the firmware, in system management mode, may write its variables.
		machine = []string{"-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1"}
	}
	return append(machine,
		"-accel", accel,
		"-cpu", "max",
		"-nodefaults", "-no-user-config", "-display", "none",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+firmware,
		"-drive", "if=pflash,unit=1,format=raw,file="+varsFile,
	)
}

// arguments is QEMU's command line for s. Descriptor 3 is the listening control socket.
func (s Spec) arguments(accelerator, firmware string, snapshotRate int) []string {
	return slices.Concat(hardware(accelerator, firmware, s.UefiData != ""), s.drive(snapshotRate), s.storeDrives(), slots(), s.volumeDrives(), []string{
		"-name", "guest=" + s.Instance,
		"-pidfile", pidFile,
		"-S", // paused until its network is plugged in
		// A guest that powers off stays visible until the lab has taken note, even across
		// a restart of the lab. Any other end of the process is a crash.
		"-action", "shutdown=pause",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		// Cores, not EC2's two threads a core: QEMU's AMD models have no threads.
		"-smp", fmt.Sprintf("%d,sockets=1,cores=%d,threads=1", s.VCPUs, s.VCPUs),
		"-m", fmt.Sprintf("%dM", s.MemoryMiB),
		"-uuid", s.uuid().String(),
		"-smbios", "type=1,manufacturer=Amazon EC2,product=" + s.Type + ",serial=" + s.uuid().String(),
		"-smbios", "type=2,manufacturer=Amazon EC2,asset=" + s.Instance,
		"-netdev", "tap,id=eth0,script=no,downscript=no,ifname=" + s.Tap,
		"-device", "virtio-net-pci,netdev=eth0,romfile=,mac=" + s.MAC.String(),
		"-device", "virtio-rng-pci",
	}, s.nics(), []string{
		"-chardev", "file,id=console,append=on,path=" + consoleFile,
		"-serial", "chardev:console",
		"-chardev", "socket,id=control,server=on,wait=off,fd=3",
		"-mon", "chardev=control,mode=control",
		// QEMU serves one client a socket, and the lab's daemon has the other for good.
		"-chardev", "socket,id=stats,server=on,wait=off,path=" + statsFile,
		"-mon", "chardev=stats,mode=control",
	})
}

// serial spells a volume's ID as EBS volumes have it for their NVMe serial number: no
// dash, at most the 20 characters that NVMe allows.
func serial(volume string) string {
	var b []byte
	for i := 0; i < len(volume) && len(b) < 20; i++ {
		if volume[i] != '-' {
			b = append(b, volume[i])
		}
	}
	return string(b)
}

// uuid is the machine's DMI product UUID. On EC2 it begins with ec2.
func (s Spec) uuid() uuid.UUID {
	sum := sha256.Sum256([]byte(s.Instance))
	id := uuid.UUID(sum[:16])
	id[0], id[1] = 0xec, 0x20|id[1]&0x0f
	return id
}
