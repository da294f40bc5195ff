package nvram

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/ovenbird-dev/ovenbird/internal/uefivars"
)

// template is flash as OVMF ships it: a firmware volume with an empty store of 4 KiB.
func template() []byte {
	flash := bytes.Repeat([]byte{0xff}, 8<<10)
	copy(flash[40:], "_FVH")
	binary.LittleEndian.PutUint16(flash[48:], 0x48)
	signature := guid(authenticated)
	copy(flash[0x48:], signature[:])
	binary.LittleEndian.PutUint32(flash[0x48+16:], 4<<10)
	flash[0x48+20], flash[0x48+21] = formatted, healthy
	return flash
}

func TestAVariableLiesWhereTheFirmwareLooks(t *testing.T) {
	flash, err := Write(template(), []uefivars.Variable{
		{Name: "db", Vendor: uuid.MustParse("d719b2cb-3d3a-4596-a3bc-dad00e67656f"), Attributes: 0x27, Data: []byte{1, 2, 3}},
		{Name: "PK", Attributes: 0x27, Data: []byte{4}},
	})
	if err != nil {
		t.Fatal(err)
	}
	first := flash[0x48+28:]
	want := []byte{
		0xaa, 0x55, 0x3f, 0, 0x27, 0, 0, 0, // start, state, attributes
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // count, time, key
		6, 0, 0, 0, 3, 0, 0, 0, // sizes of name and data
		0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
		'd', 0, 'b', 0, 0, 0, 1, 2, 3, 0xff, 0xff, 0xff,
	}
	if !bytes.Equal(first[:len(want)], want) {
		t.Errorf("the first variable is\n% x, want\n% x", first[:len(want)], want)
	}
	if second := first[len(want):]; second[0] != 0xaa || second[1] != 0x55 {
		t.Errorf("after it comes % x, want the second variable", second[:8])
	}
}

func TestWhatIsNoEmptyStoreIsRefused(t *testing.T) {
	v := []uefivars.Variable{{Name: "PK", Data: []byte{1}}}
	once, err := Write(template(), v)
	if err != nil {
		t.Fatal(err)
	}
	other := template()
	other[0x48] ^= 1
	huge := template()
	binary.LittleEndian.PutUint32(huge[0x48+16:], 1<<20)
	for name, test := range map[string]struct {
		flash []byte
		vars  []uefivars.Variable
		want  string
	}{
		"no flash":               {nil, v, "no firmware volume"},
		"flash that ends":        {template()[:0x48+20], v, "ends before its variables"},
		"another kind of store":  {other, v, "no store of authenticated variables"},
		"a store that is larger": {huge, v, "says that it has"},
		"a store with variables": {once, v, "has variables already"},
		"more than fits":         {template(), []uefivars.Variable{{Name: "db", Data: make([]byte, 4<<10)}}, "db does not fit"},
	} {
		if _, err := Write(test.flash, test.vars); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestTheFirmwareOfTheHostHasAnEmptyStore(t *testing.T) {
	flash, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	if err != nil {
		t.Skip("the package ovmf is not installed: ", err)
	}
	if _, err := Write(flash, []uefivars.Variable{{Name: "PK", Data: make([]byte, 1<<10)}}); err != nil {
		t.Error(err)
	}
}
