package ec2

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"hash/crc32"
	"regexp"
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
)

// maxUEFIData is the most that RegisterImage takes, in characters of base64.
const maxUEFIData = 64000

// What a gp3 volume does, in operations and MiB a second.
const (
	minIOPS, maxIOPS             = 3000, 80000
	minThroughput, maxThroughput = 125, 2000
)

// uefiMagic begins every variable store of EC2's firmware (awslabs/python-uefivars).
const uefiMagic = "AMZNUEFI"

// imageName is what a name may be (API reference, RegisterImage).
var imageName = regexp.MustCompile(`^[a-zA-Z0-9()\[\] ./\-'@_]{3,128}$`)

type imageIDResponse struct {
	XMLName   xml.Name
	RequestID string `xml:"requestId"`
	ID        string `xml:"imageId"`
}

func newImage(p *params, action, id string) imageIDResponse {
	return imageIDResponse{XMLName: doneWith(p, action).XMLName, RequestID: p.id, ID: id}
}

// imageName reads a name.
func (p *params) imageName() string {
	name := p.required("Name")
	if name != "" && !imageName.MatchString(name) {
		p.fail(invalid("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '.', '-', '/' and '_'"))
	}
	return name
}

func (p *params) description() string {
	text := p.text("Description")
	if len([]rune(text)) > 255 {
		p.fail(invalid("InvalidParameterValue", "A description holds at most 255 characters"))
	}
	return text
}

func (s Service) registerImage(p *params) (any, error) {
	order := catalog.Image{
		Region: s.Plan.Region, Name: p.imageName(), Description: p.description(),
		Architecture: p.oneOf("Architecture", "i386", "x86_64", "arm64"),
		BootMode:     p.oneOf("BootMode", "", "legacy-bios", "uefi", "uefi-preferred"),
		ENA:          p.boolean("EnaSupport"),
		TPM:          p.oneOf("TpmSupport", "", "v2.0"),
		IMDS:         p.oneOf("ImdsSupport", "", "v2.0"),
		RootDevice:   p.oneOf("RootDeviceName", "/dev/sda1", p.text("RootDeviceName")),
		Tags:         p.tags("image")["image"],
	}
	order.UEFIData = uefiData(p, order.BootMode)
	order.Devices = devices(p, order.RootDevice)
	if p.oneOf("VirtualizationType", "paravirtual", "hvm") != "hvm" {
		p.fail(invalid("InvalidParameterCombination", "The lab has hvm images only; VirtualizationType is paravirtual unless it is given"))
	}
	if order.TPM != "" && order.BootMode != "uefi" {
		p.fail(invalid("InvalidParameterCombination", "TpmSupport requires the boot mode uefi"))
	}
	if order.Architecture == "arm64" && (order.BootMode != "" && order.BootMode != "uefi") {
		p.fail(invalid("InvalidParameterCombination", "The architecture arm64 requires the boot mode uefi"))
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	image, err := s.Catalog.Register(order)
	if err != nil {
		return nil, refusedImage(order.Name, err)
	}
	return newImage(p, "RegisterImage", image.ID), nil
}

// refusedImage says why there is no new image.
func refusedImage(name string, err error) error {
	var taken *catalog.NameTakenError
	var snapshot *catalog.SnapshotError
	switch {
	case errors.As(err, &taken):
		return invalid("InvalidAMIName.Duplicate", "AMI name %s is already in use by AMI %s", name, taken.Image)
	case errors.Is(err, catalog.ErrVolumeSize):
		return invalid("InvalidBlockDeviceMapping", "The volume size is smaller than the snapshot's")
	case !errors.As(err, &snapshot):
		return err
	case errors.Is(err, catalog.ErrNotFound):
		return noSnapshot(snapshot.ID)
	case snapshot.Status == catalog.Failed:
		return invalid("IncorrectState", "Snapshot %s is in invalid state - error", snapshot.ID)
	}
	return invalid("IncorrectState", "Snapshot %s is in invalid state - pending", snapshot.ID)
}

// uefiData reads the firmware's variables.
func uefiData(p *params, bootMode string) []byte {
	text := p.text("UefiData")
	if text == "" {
		return nil
	}
	data, err := base64.StdEncoding.DecodeString(text)
	switch {
	case len(text) > maxUEFIData:
		p.fail(invalid("InvalidParameterValue", "UefiData holds at most %d bytes", maxUEFIData))
	case err != nil || !isVariableStore(data):
		p.fail(invalid("InvalidParameterValue", "UefiData is not the base64 of a UEFI variable store"))
	case bootMode != "uefi" && bootMode != "uefi-preferred":
		p.fail(invalid("InvalidParameterCombination", "UefiData requires the boot mode uefi or uefi-preferred"))
	}
	return data
}

// isVariableStore tells whether data is a variable store that arrived whole: eight letters,
// and the CRC-32C of what follows it.
func isVariableStore(data []byte) bool {
	const header = len(uefiMagic) + 4
	return len(data) >= header && string(data[:len(uefiMagic)]) == uefiMagic &&
		binary.LittleEndian.Uint32(data[len(uefiMagic):]) == crc32.Checksum(data[header:], crc32.MakeTable(crc32.Castagnoli))
}

// devices reads the block device mapping: the root volume, as the lab's instances have no
// other.
func devices(p *params, root string) []catalog.Device {
	var list []catalog.Device
	for _, mapping := range p.members("BlockDeviceMapping") {
		volume := mapping + ".Ebs"
		d := catalog.Device{
			Name: p.required(mapping + ".DeviceName"), Snapshot: p.snapshotID(volume + ".SnapshotId"),
			Type:      p.oneOf(volume+".VolumeType", "gp2", "gp3", "io1", "io2", "standard"),
			VolumeGiB: int64(p.integer(volume+".VolumeSize", 0)),
			IOPS:      p.integer(volume+".Iops", 0), Throughput: p.integer(volume+".Throughput", 0),
			Keep: p.oneOf(volume+".DeleteOnTermination", "true", "false") == "false",
		}
		if p.has(volume + ".Encrypted") {
			p.text(volume + ".Encrypted")
			p.fail(invalid("InvalidParameterCombination", "The parameter encrypted cannot be specified with a snapshot: the image's volumes are encrypted as its snapshots are"))
		}
		performance(p, &d)
		if slices.ContainsFunc(list, func(other catalog.Device) bool { return other.Name == d.Name }) {
			p.fail(invalid("InvalidBlockDeviceMapping", "The device '%s' is used in more than one block-device mapping", d.Name))
		}
		list = append(list, d)
	}
	switch {
	case !slices.ContainsFunc(list, func(d catalog.Device) bool { return d.Name == root }):
		p.fail(invalid("InvalidBlockDeviceMapping", "The block device mapping has no root device %s", root))
	case len(list) > 1:
		p.fail(invalid("UnsupportedOperation", "The lab has one volume an instance, %s", root))
	}
	return list
}

// performance checks what a volume is to do, and fills in what gp3 does unasked.
func performance(p *params, d *catalog.Device) {
	if d.Type != "gp3" {
		if d.Throughput != 0 {
			p.fail(invalid("InvalidParameterCombination", "The parameter throughput is not supported for %s volumes", d.Type))
		}
		return
	}
	if d.IOPS == 0 {
		d.IOPS = minIOPS
	}
	if d.Throughput == 0 {
		d.Throughput = minThroughput
	}
	switch {
	case d.IOPS < minIOPS || d.IOPS > maxIOPS:
		p.fail(invalid("InvalidParameterValue", "Volume iops of %d is not between %d and %d", d.IOPS, minIOPS, maxIOPS))
	case d.Throughput < minThroughput || d.Throughput > maxThroughput:
		p.fail(invalid("InvalidParameterValue", "Throughput of %d MiB/s is not between %d and %d", d.Throughput, minThroughput, maxThroughput))
	}
}
