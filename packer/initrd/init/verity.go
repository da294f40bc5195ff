package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

const sectorSize = 512

// superblock is what veritysetup writes before the hashes (cryptsetup,
// docs/on-disk-format-luks2 and lib/verity/verity.c).
type superblock struct {
	Signature     [8]byte
	Version       uint32
	HashType      uint32
	UUID          [16]byte
	Algorithm     [32]byte
	DataBlockSize uint32
	HashBlockSize uint32
	DataBlocks    uint64
	SaltSize      uint16
	_             [6]byte
	Salt          [256]byte
	_             [168]byte
}

// readSuperblock reads what the hashes were made with. Nothing of it needs to be
// trusted: with other parameters, the blocks do not add up to the root hash.
func readSuperblock(r io.Reader) (superblock, error) {
	var sb superblock
	if err := binary.Read(r, binary.LittleEndian, &sb); err != nil {
		return superblock{}, err
	}
	size := func(n uint32) bool { return n >= sectorSize && n <= 64<<10 && n&(n-1) == 0 }
	if string(sb.Signature[:]) != "verity\x00\x00" || sb.Version != 1 || !size(sb.DataBlockSize) || !size(sb.HashBlockSize) || sb.SaltSize > 256 {
		return superblock{}, errors.New("it does not begin as veritysetup begins it")
	}
	return sb, nil
}

// vouchedFor tells whether the root hash is that of the hashes on the device: whether the
// topmost hash block, which follows the superblock, has it. It only picks the disk; what
// is below is verified as it is read.
func vouchedFor(device, rootHash string) bool {
	f, err := os.Open(device)
	if err != nil {
		return false
	}
	defer f.Close()
	sb, err := readSuperblock(f)
	if err != nil {
		return false
	}
	top := make([]byte, sb.HashBlockSize)
	if _, err := f.ReadAt(top, int64(sb.HashBlockSize)); err != nil {
		return false
	}
	sum := sha256.Sum256(append(sb.Salt[:sb.SaltSize:sb.SaltSize], top...))
	return hex.EncodeToString(sum[:]) == rootHash
}

// sectors is the length of the data.
func (sb superblock) sectors() uint64 { return sb.DataBlocks * uint64(sb.DataBlockSize/sectorSize) }

// table is the verity target's arguments (the kernel's admin-guide,
// device-mapper/verity). A block that is not what the root hash vouches for stops the
// machine: whoever changed it must not get to see what a half-read system does.
func (sb superblock) table(data, hashes, rootHash string) string {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	salt := "-"
	if sb.SaltSize > 0 {
		salt = hex.EncodeToString(sb.Salt[:sb.SaltSize])
	}
	algorithm, _, _ := bytes.Cut(sb.Algorithm[:], []byte{0})
	table := number(uint64(sb.HashType)) + " " + data + " " + hashes
	for _, word := range []string{
		number(uint64(sb.DataBlockSize)), number(uint64(sb.HashBlockSize)), number(sb.DataBlocks),
		"1", // the block after the superblock's
		string(algorithm), rootHash, salt,
		"1", "panic_on_corruption",
	} {
		table += " " + word
	}
	return table
}

// openVerity has the kernel verify data as it is read, and returns the device that
// shows the verified blocks.
func openVerity(data, hashes partition, rootHash string) (string, error) {
	device, err := os.Open(hashes.path())
	if err != nil {
		return "", err
	}
	sb, err := readSuperblock(device)
	_ = device.Close()
	if err != nil {
		return "", errors.New("read the hashes in " + hashes.path() + ": " + err.Error())
	}
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()

	// The UUID is how lsblk and systemd know a verity device.
	message := newMessage("root", "CRYPT-VERITY-"+hex.EncodeToString(sb.UUID[:])+"-root")
	if err := message.send(control, unix.DM_DEV_CREATE); err != nil {
		return "", errors.New("make the verified root: " + err.Error())
	}
	minor := unix.Minor(message.header.Dev)
	message = newMessage("root", "")
	message.header.Flags = unix.DM_READONLY_FLAG
	message.target(sb.sectors(), "verity", sb.table(data.number, hashes.number, rootHash))
	if err := message.send(control, unix.DM_TABLE_LOAD); err != nil {
		return "", errors.New("make the verified root of " + data.path() + " and " + hashes.path() + ": " + err.Error())
	}
	if err := newMessage("root", "").send(control, unix.DM_DEV_SUSPEND); err != nil { // without the flag: resume
		return "", errors.New("start the verified root: " + err.Error())
	}
	return "/dev/dm-" + strconv.FormatUint(uint64(minor), 10), nil
}

// message is a request to device-mapper (linux/dm-ioctl.h).
type message struct {
	header unix.DmIoctl
	body   [4096]byte
}

func newMessage(name, uuid string) *message {
	m := &message{header: unix.DmIoctl{Version: [3]uint32{4, 0, 0}}}
	m.header.Data_size = uint32(unsafe.Sizeof(*m))
	m.header.Data_start = uint32(unsafe.Sizeof(m.header))
	copy(m.header.Name[:], name)
	copy(m.header.Uuid[:], uuid)
	return m
}

// target adds the one target of a table.
func (m *message) target(sectors uint64, kind, arguments string) {
	m.header.Target_count = 1
	spec := unix.DmTargetSpec{Length: sectors}
	copy(spec.Target_type[:], kind)
	var body bytes.Buffer
	_ = binary.Write(&body, binary.LittleEndian, spec) // a fixed size: it cannot fail
	body.WriteString(arguments)
	copy(m.body[:len(m.body)-1], body.Bytes())
}

func (m *message) send(control *os.File, request uintptr) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), request, uintptr(unsafe.Pointer(m)))
	if errno != 0 {
		return errno
	}
	return nil
}
