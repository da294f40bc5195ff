package fleet

// Type is an instance type. Figures are EC2's (DescribeInstanceTypes).
type Type struct {
	Name       string
	VCPUs      int
	MemoryMiB  int
	Interfaces int // network interfaces at most
	IPv4PerENI int // addresses on each at most
	Drives     int // instance-store drives
	DriveGB    int // of each
}

// mostMemoryMiB is what the guest of a larger type gets. Of processors it gets no more than
// this machine has, as emulated ones wait for each other.
const mostMemoryMiB = 16384

// Types are the instance types that the lab has: those small enough for one machine, and one with two
// instance-store drives.
func Types() []Type {
	return []Type{
		{Name: "t3.nano", VCPUs: 2, MemoryMiB: 512, Interfaces: 2, IPv4PerENI: 2},
		{Name: "t3.micro", VCPUs: 2, MemoryMiB: 1024, Interfaces: 2, IPv4PerENI: 2},
		{Name: "t3.small", VCPUs: 2, MemoryMiB: 2048, Interfaces: 3, IPv4PerENI: 4},
		{Name: "t3.medium", VCPUs: 2, MemoryMiB: 4096, Interfaces: 3, IPv4PerENI: 6},
		{Name: "t3.large", VCPUs: 2, MemoryMiB: 8192, Interfaces: 3, IPv4PerENI: 12},
		{Name: "t3.xlarge", VCPUs: 4, MemoryMiB: 16384, Interfaces: 4, IPv4PerENI: 15},
		{Name: "c5.large", VCPUs: 2, MemoryMiB: 4096, Interfaces: 3, IPv4PerENI: 10},
		{Name: "c5.xlarge", VCPUs: 4, MemoryMiB: 8192, Interfaces: 4, IPv4PerENI: 15},
		{Name: "m5.large", VCPUs: 2, MemoryMiB: 8192, Interfaces: 3, IPv4PerENI: 10},
		{Name: "m5.xlarge", VCPUs: 4, MemoryMiB: 16384, Interfaces: 4, IPv4PerENI: 15},
		{Name: "m6i.large", VCPUs: 2, MemoryMiB: 8192, Interfaces: 3, IPv4PerENI: 10},
		{Name: "m6id.large", VCPUs: 2, MemoryMiB: 8192, Interfaces: 3, IPv4PerENI: 10, Drives: 1, DriveGB: 118},
		{Name: "i3en.2xlarge", VCPUs: 8, MemoryMiB: 65536, Interfaces: 4, IPv4PerENI: 15, Drives: 2, DriveGB: 2500},
	}
}

// FindType finds an instance type by name.
func FindType(name string) (Type, bool) {
	for _, t := range Types() {
		if t.Name == name {
			return t, true
		}
	}
	return Type{}, false
}
