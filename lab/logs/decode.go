package logs

import (
	"bytes"
	"encoding/json"
	"reflect"
)

// decode reads a request into the struct that out points to. Names are told apart by case, as
// CloudWatch Logs does it and encoding/json does not, and one that the struct does not have is
// refused.
func decode(body []byte, out any) error {
	if err := json.Unmarshal(body, out); err != nil {
		return unreadable(err)
	}
	return exact("", body, reflect.TypeOf(out).Elem())
}

func unreadable(err error) error {
	return refuse("SerializationException", "The request's body cannot be read: %v", err)
}

// exact checks the names in a value at a path that has been decoded into a t.
func exact(path string, value json.RawMessage, t reflect.Type) error {
	if bytes.Equal(value, []byte("null")) {
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return exact(path, value, t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Struct {
			return nil
		}
		var list []json.RawMessage
		if err := json.Unmarshal(value, &list); err != nil {
			return unreadable(err)
		}
		for _, element := range list {
			if err := exact(path+"[].", element, t.Elem()); err != nil {
				return err
			}
		}
	case reflect.Struct:
		var object map[string]json.RawMessage
		if err := json.Unmarshal(value, &object); err != nil {
			return unreadable(err)
		}
		for name, element := range object {
			field, ok := fieldOf(t, name)
			if !ok {
				return invalid("The lab does not support the parameter %s%s.", path, name)
			}
			if err := exact(path+name, element, field.Type); err != nil {
				return err
			}
		}
	}
	return nil
}

func fieldOf(t reflect.Type, name string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("json") == name {
			return f, true
		}
	}
	return reflect.StructField{}, false
}
