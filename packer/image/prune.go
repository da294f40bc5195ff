package image

// dpkgOptions keep what a node never reads or runs out of the root file system, as dpkg
// unpacks it: of that nothing knows but the package manager, which a node has no use for.
var dpkgOptions = append([]string{
	"path-exclude=/usr/share/doc/*",
	"path-include=/usr/share/doc/*/copyright",
	"path-exclude=/usr/share/man/*",
	"path-exclude=/usr/share/info/*",
	"path-exclude=/usr/share/locale/*",
	"path-exclude=/usr/share/lintian/*",
	"path-exclude=/usr/share/bug/*",
	"path-exclude=/usr/share/gcc/*", // for debuggers
	"path-exclude=/usr/share/bash-completion/completions/*",
	"path-exclude=/usr/share/zsh/*",
	// glibc's conversions between character sets; those of Unicode and Latin-1 stay.
	"path-exclude=/usr/lib/x86_64-linux-gnu/gconv/*.so",
	"path-include=/usr/lib/x86_64-linux-gnu/gconv/UTF-*.so",
	"path-include=/usr/lib/x86_64-linux-gnu/gconv/UNICODE.so",
	"path-include=/usr/lib/x86_64-linux-gnu/gconv/ISO8859-1.so",
	"path-exclude=/usr/lib/udev/hwdb.d/*", // names and quirks of hardware that no instance has
	// The kernel package's hook would make an initrd that nothing boots from, of these.
	"path-exclude=/etc/kernel/postinst.d/initramfs-tools",
	"path-exclude=/usr/lib/klibc/bin/*",
}, excludedModules()...)

// unusedModules are parts of Debian's cloud kernel for hardware that neither EC2 nor the
// lab has, and for file systems and protocols that neither a node nor its pods use, some
// of which the CIS benchmark wants gone. What storage, network and accelerator drivers
// could need stays: block, NVMe, SCSI, RAID, NFS, SMB, Ceph, RDMA, netfilter and tunnels.
var unusedModules = []string{
	"drivers/comedi", "drivers/hid", "drivers/input/rmi4", "drivers/misc/cardreader", "drivers/net/wwan",
	"drivers/platform/surface", "drivers/scsi/mpi3mr", "drivers/soundwire", "drivers/firmware/google",
	"fs/bcachefs", "fs/cramfs", "fs/freevxfs", "fs/hfs", "fs/hfsplus", "fs/jffs2", "fs/ntfs3", "fs/orangefs",
	"fs/romfs", "fs/smb/server", "fs/sysv", "fs/udf", "fs/zonefs",
	"net/dccp", "net/rds", "net/tipc",
}

func excludedModules() []string {
	options := make([]string, 0, len(unusedModules))
	for _, dir := range unusedModules {
		options = append(options, "path-exclude=/usr/lib/modules/*/kernel/"+dir+"/*")
	}
	return options
}
