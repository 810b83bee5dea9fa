/* The part of CPython's C API that the codec uses.
 *
 * Natively (tests) that is Python.h. For WebAssembly no headers of the right version can be counted on, so the prototypes of the
 * stable ABI (PEP 384, 3.12) that we need are written out here; `tests/test_abi.py` compiles them against a real Python.h, where a
 * difference is an error. Nothing in here depends on how objects lie in memory, but for the head of an object, which the stable ABI fixes.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(__wasm__) || defined(WASMILL_CHECK_ABI)
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#endif

#if defined(__wasm__) || defined(WASMILL_CHECK_ABI)
#ifndef WASMILL_CHECK_ABI
typedef ptrdiff_t Py_ssize_t;
typedef ptrdiff_t Py_hash_t;
typedef struct _object { Py_ssize_t ob_refcnt; struct _typeobject *ob_type; } PyObject;
typedef struct { PyObject ob_base; Py_ssize_t ob_size; } PyVarObject;
typedef struct { const char *name; PyObject *(*get)(PyObject *, void *); int (*set)(PyObject *, PyObject *, void *); const char *doc; void *closure; } PyGetSetDef;
typedef struct _typeobject PyTypeObject;
typedef PyObject *(*PyCFunction)(PyObject *, PyObject *);
typedef struct { const char *ml_name; PyCFunction ml_meth; int ml_flags; const char *ml_doc; } PyMethodDef;
typedef struct { PyObject ob_base; PyObject *(*m_init)(void); Py_ssize_t m_index; PyObject *m_copy; } PyModuleDef_Base;
typedef struct PyModuleDef {
  PyModuleDef_Base m_base; const char *m_name; const char *m_doc; Py_ssize_t m_size; PyMethodDef *m_methods;
  void *m_slots; void *m_traverse; void *m_clear; void *m_free;
} PyModuleDef;
typedef struct { int slot; void *pfunc; } PyType_Slot;
typedef struct { const char *name; int basicsize; int itemsize; unsigned int flags; PyType_Slot *slots; } PyType_Spec;
typedef enum { PyGILState_LOCKED, PyGILState_UNLOCKED } PyGILState_STATE;
typedef struct {
  void *buf; PyObject *obj; Py_ssize_t len; Py_ssize_t itemsize; int readonly; int ndim; char *format;
  Py_ssize_t *shape; Py_ssize_t *strides; Py_ssize_t *suboffsets; void *internal;
} Py_buffer;
#define PyModuleDef_HEAD_INIT {{1, NULL}, NULL, 0, NULL}
#define PYTHON_API_VERSION 1013
#define PyModule_Create(def) PyModule_Create2(def, PYTHON_API_VERSION)
#define METH_NOARGS 0x0004
#define METH_O 0x0008
#define METH_KEYWORDS 0x0002
#define METH_FASTCALL 0x0080
#define Py_mp_ass_subscript 3
#define Py_mp_length 4
#define Py_mp_subscript 5
#define Py_tp_dealloc 52
#define Py_tp_getattro 58
#define Py_tp_iter 62
#define Py_tp_iternext 63
#define Py_tp_methods 64
#define Py_tp_new 65
#define Py_tp_setattro 69
#define Py_tp_getset 73
#define Py_TPFLAGS_DEFAULT 0
#define Py_TPFLAGS_IMMUTABLETYPE (1u << 8)
#define Py_TPFLAGS_DISALLOW_INSTANTIATION (1u << 7)
#define PyBUF_SIMPLE 0
#define PY_VECTORCALL_ARGUMENTS_OFFSET ((size_t)1 << (8 * sizeof(size_t) - 1))
#define Py_None (&_Py_NoneStruct)
#define Py_True ((PyObject *)&_Py_TrueStruct)
#define Py_False ((PyObject *)&_Py_FalseStruct)
#define Py_TYPE(o) ((o)->ob_type)
#define Py_REFCNT(o) ((o)->ob_refcnt)
#define Py_INCREF(o) Py_IncRef((PyObject *)(o))
#define Py_DECREF(o) Py_DecRef((PyObject *)(o))
#define Py_XDECREF(o) Py_DecRef((PyObject *)(o)) /* Py_DecRef takes NULL */
#define Py_CLEAR(o) do { PyObject *held_ = (PyObject *)(o); (o) = NULL; Py_DecRef(held_); } while (0)
#define PyLong_CheckExact(o) (Py_TYPE(o) == &PyLong_Type)
#define PyFloat_CheckExact(o) (Py_TYPE(o) == &PyFloat_Type)
#define PyUnicode_CheckExact(o) (Py_TYPE(o) == &PyUnicode_Type)
#define PyBytes_CheckExact(o) (Py_TYPE(o) == &PyBytes_Type)
#define PyList_CheckExact(o) (Py_TYPE(o) == &PyList_Type)
#define PyTuple_CheckExact(o) (Py_TYPE(o) == &PyTuple_Type)
#define PyDict_CheckExact(o) (Py_TYPE(o) == &PyDict_Type)
#define PyBool_Check(o) (Py_TYPE(o) == &PyBool_Type)
#define PyFloat_Check(o) (PyFloat_CheckExact(o) || PyType_IsSubtype(Py_TYPE(o), &PyFloat_Type))
/* As Python.h does it: a bit of the type says that it is derived from one of these. */
#define PyLong_Check(o) (type_flags(Py_TYPE(o)) >> 24 & 1)
#define PyList_Check(o) (type_flags(Py_TYPE(o)) >> 25 & 1)
#define PyTuple_Check(o) (type_flags(Py_TYPE(o)) >> 26 & 1)
#define PyBytes_Check(o) (type_flags(Py_TYPE(o)) >> 27 & 1)
#define PyUnicode_Check(o) (type_flags(Py_TYPE(o)) >> 28 & 1)
#define PyDict_Check(o) (type_flags(Py_TYPE(o)) >> 29 & 1)
extern PyObject _Py_NoneStruct;
extern struct _longobject _Py_TrueStruct, _Py_FalseStruct;
extern PyTypeObject PyLong_Type, PyFloat_Type, PyUnicode_Type, PyBytes_Type, PyList_Type, PyTuple_Type, PyDict_Type, PyBool_Type;
extern PyObject *PyExc_BaseException, *PyExc_AttributeError, *PyExc_IndexError, *PyExc_KeyError, *PyExc_TypeError, *PyExc_ValueError, *PyExc_OverflowError, *PyExc_RuntimeError, *PyExc_MemoryError, *PyExc_UnicodeEncodeError;
typedef enum { PYGEN_RETURN = 0, PYGEN_ERROR = -1, PYGEN_NEXT = 1 } PySendResult;
#endif
extern int PyType_IsSubtype(PyTypeObject *, PyTypeObject *);
extern unsigned long PyType_GetFlags(PyTypeObject *);
extern void Py_IncRef(PyObject *);
extern void Py_DecRef(PyObject *);
extern PyObject *PyModule_Create2(PyModuleDef *, int);
extern int PyModule_AddObjectRef(PyObject *, const char *, PyObject *);
extern PyObject *PyType_FromSpec(PyType_Spec *);
extern PyVarObject *PyObject_InitVar(PyVarObject *, PyTypeObject *, Py_ssize_t);
extern PyObject *PyType_GenericAlloc(PyTypeObject *, Py_ssize_t);
extern PyObject *PyCMethod_New(PyMethodDef *, PyObject *, PyObject *, PyTypeObject *);
extern int PyObject_GC_IsTracked(PyObject *);
extern double PyOS_string_to_double(const char *, char **, PyObject *);
extern int PyObject_IsTrue(PyObject *);
extern PyObject *PyObject_Repr(PyObject *);
extern PyObject *PyObject_Str(PyObject *);
extern PyObject *PyObject_Format(PyObject *, PyObject *);
extern PyObject *PyObject_GetAttr(PyObject *, PyObject *);
extern PyObject *PyObject_GetAttrString(PyObject *, const char *);
extern PyObject *PyObject_GetIter(PyObject *);
extern PyObject *PyObject_GetItem(PyObject *, PyObject *);
extern PyObject *PyObject_GenericGetAttr(PyObject *, PyObject *);
extern int PyObject_GenericSetAttr(PyObject *, PyObject *, PyObject *);
extern PyObject *PyObject_Vectorcall(PyObject *, PyObject *const *, size_t, PyObject *);
extern PyObject *PyObject_VectorcallMethod(PyObject *, PyObject *const *, size_t, PyObject *);
extern void *PyCapsule_Import(const char *, int);
extern PyObject *PyObject_CallNoArgs(PyObject *);
extern int PyObject_GetBuffer(PyObject *, Py_buffer *, int);
extern void PyBuffer_Release(Py_buffer *);
extern void *PyMem_Malloc(size_t);
extern void PyObject_Free(void *);
extern PyObject *PyIter_Next(PyObject *);
extern PySendResult PyIter_Send(PyObject *, PyObject *, PyObject **);
extern PyObject *PyNumber_Index(PyObject *);
extern int PyIndex_Check(PyObject *);
extern PyObject *PyLong_FromLong(long);
extern PyObject *PyLong_FromLongLong(long long);
extern PyObject *PyLong_FromUnsignedLongLong(unsigned long long);
extern long PyLong_AsLong(PyObject *);
extern Py_ssize_t PyLong_AsSsize_t(PyObject *);
extern long long PyLong_AsLongLong(PyObject *);
extern long long PyLong_AsLongLongAndOverflow(PyObject *, int *);
extern unsigned long long PyLong_AsUnsignedLongLong(PyObject *);
extern double PyLong_AsDouble(PyObject *);
extern PyObject *PyBool_FromLong(long);
extern PyObject *PyFloat_FromDouble(double);
extern double PyFloat_AsDouble(PyObject *);
extern PyObject *PyUnicode_FromString(const char *);
extern PyObject *PyUnicode_FromStringAndSize(const char *, Py_ssize_t);
extern const char *PyUnicode_AsUTF8AndSize(PyObject *, Py_ssize_t *);
extern void PyUnicode_InternInPlace(PyObject **);
extern PyObject *PyUnicode_AsEncodedString(PyObject *, const char *, const char *);
extern Py_ssize_t PyUnicode_GetLength(PyObject *);
extern PyObject *PyBytes_FromStringAndSize(const char *, Py_ssize_t);
extern int PyBytes_AsStringAndSize(PyObject *, char **, Py_ssize_t *);
extern int PyList_Append(PyObject *, PyObject *);
extern PyObject *PyList_New(Py_ssize_t);
extern int PyList_SetItem(PyObject *, Py_ssize_t, PyObject *);
extern PyObject *PyList_GetItem(PyObject *, Py_ssize_t);
extern Py_ssize_t PyList_Size(PyObject *);
extern PyObject *PyTuple_New(Py_ssize_t);
extern int PyTuple_SetItem(PyObject *, Py_ssize_t, PyObject *);
extern PyObject *PyTuple_GetItem(PyObject *, Py_ssize_t);
extern Py_ssize_t PyTuple_Size(PyObject *);
extern PyObject *PyDict_New(void);
extern PyObject *PyDict_Copy(PyObject *);
extern int PyDict_SetItem(PyObject *, PyObject *, PyObject *);
extern PyObject *PyDict_GetItemWithError(PyObject *, PyObject *);
extern Py_ssize_t PyDict_Size(PyObject *);
extern int PyDict_Next(PyObject *, Py_ssize_t *, PyObject **, PyObject **);
extern void PyErr_SetString(PyObject *, const char *);
extern void PyErr_SetObject(PyObject *, PyObject *);
extern PyObject *PyErr_Format(PyObject *, const char *, ...);
extern PyObject *PyErr_NoMemory(void);
extern PyObject *PyErr_Occurred(void);
extern int PyErr_ExceptionMatches(PyObject *);
extern void PyErr_Clear(void);
extern PyObject *PyErr_GetRaisedException(void);
extern PyGILState_STATE PyGILState_Ensure(void);
extern void PyGILState_Release(PyGILState_STATE);
#endif

#ifndef __wasm__
#if PY_VERSION_HEX < 0x030C0000
/* PyErr_GetRaisedException for CPython 3.9 to 3.11. */
static inline PyObject *PyErr_GetRaisedException(void) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  if (!type) return NULL;
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback && value) PyException_SetTraceback(value, traceback);
  Py_XDECREF(type);
  Py_XDECREF(traceback);
  return value;
}
#endif
#if PY_VERSION_HEX < 0x030A0000
typedef enum { PYGEN_RETURN = 0, PYGEN_ERROR = -1, PYGEN_NEXT = 1 } PySendResult;
static inline PySendResult PyIter_Send(PyObject *iterator, PyObject *unused, PyObject **result) {
  (void)unused;
  if ((*result = PyIter_Next(iterator))) return PYGEN_NEXT;
  if (PyErr_Occurred()) return PYGEN_ERROR;
  Py_INCREF(Py_None);
  *result = Py_None;
  return PYGEN_RETURN;
}
static inline int PyModule_AddObjectRef(PyObject *module, const char *name, PyObject *value) {
  Py_INCREF(value);
  return PyModule_AddObject(module, name, value);
}
#endif
#if PY_VERSION_HEX < 0x030A0000 && !defined(Py_TPFLAGS_IMMUTABLETYPE)
#define Py_TPFLAGS_IMMUTABLETYPE 0
#define Py_TPFLAGS_DISALLOW_INSTANTIATION 0
#endif
#endif
