package ec2

import (
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
)

// Limits of a gp3 volume (Amazon EBS user guide, "General Purpose SSD volumes").
const (
	maxVolume       = 64 << 10 // GiB
	leastIOPS       = 3000
	mostIOPS        = 80000
	iopsPerGiB      = 500
	leastThroughput = 125 // MiB/s
	mostThroughput  = 2000
)

// mapping reads the volume that a block device mapping describes; a size of 0 is none.
func (p *params) mapping(name string) (gib int, kind fleet.VolumeKind) {
	p.required(name + ".DeviceName")
	p.oneOf(name+".Ebs.DeleteOnTermination", "true")
	gib = p.integer(name+".Ebs.VolumeSize", 0)
	return gib, p.volumeKind(name+".Ebs.", "VolumeSize", gib)
}

// volumeKind reads what a volume of a size is to be like.
func (p *params) volumeKind(prefix, size string, gib int) fleet.VolumeKind {
	kind := fleet.VolumeKind{
		Type: p.oneOf(prefix+"VolumeType", "gp3", "gp2"), Encrypted: p.boolean(prefix + "Encrypted"), KMSKey: p.text(prefix + "KmsKeyId"),
	}
	if p.has(prefix+size) && (gib < 1 || gib > maxVolume) {
		p.fail(invalid("InvalidParameterValue", "Volume of %dGiB is too small or too large for volume type %s", gib, kind.Type))
	}
	if kind.KMSKey != "" && !kind.Encrypted {
		p.fail(invalid("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set."))
	}
	if kind.Type != "gp3" {
		for _, only := range []string{"Iops", "Throughput"} {
			if p.has(prefix + only) {
				p.text(prefix + only)
				p.fail(invalid("InvalidParameterCombination", "The parameter %s is not supported for %s volumes.", strings.ToLower(only), kind.Type))
			}
		}
		return kind
	}
	kind.IOPS, kind.Throughput = p.integer(prefix+"Iops", leastIOPS), p.integer(prefix+"Throughput", leastThroughput)
	switch {
	case kind.IOPS < leastIOPS || kind.IOPS > mostIOPS:
		p.fail(invalid("InvalidParameterValue", "Volume iops of %d is not between %d and %d", kind.IOPS, leastIOPS, mostIOPS))
	case kind.IOPS > leastIOPS && gib > 0 && kind.IOPS > gib*iopsPerGiB:
		p.fail(invalid("InvalidParameterCombination", "Iops to volume size ratio of %d is too high; maximum is %d", kind.IOPS/gib, iopsPerGiB))
	case kind.Throughput < leastThroughput || kind.Throughput > mostThroughput:
		p.fail(invalid("InvalidParameterValue", "Throughput of %d MiB/s is not between %d and %d", kind.Throughput, leastThroughput, mostThroughput))
	case kind.Throughput*4 > kind.IOPS:
		p.fail(invalid("InvalidParameterValue", "Throughput (MiBps) to iops ratio of %f is too high; maximum is 0.250000 MiBps per iops.", float64(kind.Throughput)/float64(kind.IOPS)))
	}
	return kind
}
