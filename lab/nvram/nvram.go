// Package nvram writes UEFI variables into the flash that OVMF keeps them in, so that a
// virtual machine starts with the Secure Boot keys that its image was registered with. The
// format is edk2's (MdeModulePkg/Include/Guid/VariableFormat.h).
package nvram

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"

	"github.com/google/uuid"

	"github.com/ovenbird-dev/ovenbird/internal/uefivars"
)

// Where things lie in the flash.
const (
	volumeHeaderLength = 48 // offset of the firmware volume's header's own length
	storeHeader        = 28 // bytes: signature, size, format, state, reserved
	variableHeader     = 60
)

// States and marks of the format.
const (
	startID   = 0x55aa
	added     = 0x3f // VAR_ADDED: the variable counts
	formatted = 0x5a
	healthy   = 0xfe
)

// authenticated is the store's signature: its variables carry times and keys.
var authenticated = uuid.MustParse("aaf32c78-947b-439a-a180-2e144ec37792")

// Write returns a copy of template, an OVMF_VARS file without variables, that has vars.
func Write(template []byte, vars []uefivars.Variable) ([]byte, error) {
	store, size, err := findStore(template)
	if err != nil {
		return nil, fmt.Errorf("write UEFI variables: %w", err)
	}
	flash := bytes.Clone(template)
	at, end := store+storeHeader, store+size
	for _, v := range vars {
		record := encode(v)
		if at+len(record) > end {
			return nil, fmt.Errorf("write UEFI variables: %s does not fit: the firmware has %d bytes for all", v.Name, size)
		}
		copy(flash[at:], record)
		at += len(record)
	}
	return flash, nil
}

// findStore finds the variable store, which must be empty: flash that was never written is
// all ones.
func findStore(flash []byte) (offset, size int, err error) {
	if len(flash) < volumeHeaderLength+2 || string(flash[40:44]) != "_FVH" {
		return 0, 0, errors.New("the template is no firmware volume")
	}
	offset = int(binary.LittleEndian.Uint16(flash[volumeHeaderLength:]))
	if len(flash) < offset+storeHeader+2 {
		return 0, 0, errors.New("the template ends before its variables")
	}
	header := flash[offset:]
	signature := guid(authenticated)
	size = int(binary.LittleEndian.Uint32(header[16:]))
	switch {
	case !bytes.Equal(header[:16], signature[:]) || header[20] != formatted || header[21] != healthy:
		return 0, 0, errors.New("the template has no store of authenticated variables")
	case size < storeHeader || offset+size > len(flash):
		return 0, 0, fmt.Errorf("the template's store says that it has %d bytes", size)
	case binary.LittleEndian.Uint16(header[storeHeader:]) == startID:
		return 0, 0, errors.New("the template has variables already")
	}
	return offset, size, nil
}

// encode is a variable as it lies in the store, up to where the next one begins.
func encode(v uefivars.Variable) []byte {
	name := utf16.Encode([]rune(v.Name + "\x00"))
	vendor := guid(v.Vendor)
	record := make([]byte, variableHeader, variableHeader+2*len(name)+len(v.Data)+3)
	binary.LittleEndian.PutUint16(record, startID)
	record[2] = added
	binary.LittleEndian.PutUint32(record[4:], v.Attributes)
	// The count, the time and the key of the last authenticated write are zero: there was
	// none, and any later one is newer.
	binary.LittleEndian.PutUint32(record[36:], uint32(2*len(name))) //nolint:gosec // a name
	binary.LittleEndian.PutUint32(record[40:], uint32(len(v.Data))) //nolint:gosec // bounded by the store
	copy(record[44:], vendor[:])
	for _, unit := range name {
		record = binary.LittleEndian.AppendUint16(record, unit)
	}
	record = append(record, v.Data...)
	for len(record)%4 != 0 {
		record = append(record, 0xff)
	}
	return record
}

// guid is a UUID as UEFI stores it: its first three fields are little-endian.
func guid(id uuid.UUID) [16]byte {
	g := [16]byte(id)
	for _, swap := range [][2]int{{0, 3}, {1, 2}, {4, 5}, {6, 7}} {
		g[swap[0]], g[swap[1]] = g[swap[1]], g[swap[0]]
	}
	return g
}
