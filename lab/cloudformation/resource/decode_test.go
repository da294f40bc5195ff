package resource

import (
	"reflect"
	"strings"
	"testing"
)

type volume struct {
	Size      int
	Encrypted *bool `json:"Encrypted"`
	Tags      []struct{ Key, Value string }
	Options   map[string]string
	Document  any
}

func TestDecodeReadsWhatTemplatesHold(t *testing.T) {
	yes := true
	want := volume{Size: 20, Encrypted: &yes, Tags: []struct{ Key, Value string }{{"port", "443"}}, Options: map[string]string{"a": "true"}, Document: map[string]any{"Any": "thing"}}
	var got volume
	err := Decode(map[string]any{
		"Size": "20", "Encrypted": "true", "Tags": []any{map[string]any{"Key": "port", "Value": 443.0}},
		"Options": map[string]any{"a": true}, "Document": map[string]any{"Any": "thing"},
	}, &got)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestDecodeNamesWhatItCannotRead(t *testing.T) {
	tests := []struct {
		properties map[string]any
		want       string
	}{
		{map[string]any{"Colour": "red"}, "property /Colour"},
		{map[string]any{"Tags": []any{map[string]any{"Hue": "red"}}}, "property /Tags/0/Hue"},
		{map[string]any{"Size": "many"}, `property /Size: want a int, not "many"`},
		{map[string]any{"Size": []any{}}, "property /Size"},
		{map[string]any{"Tags": "red"}, "property /Tags: want a list"},
		{map[string]any{"Options": "red"}, "property /Options: want an object"},
	}
	for _, tt := range tests {
		var got volume
		if err := Decode(tt.properties, &got); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: got %v, want %q", tt.properties, err, tt.want)
		}
	}
}
