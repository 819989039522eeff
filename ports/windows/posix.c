/* What posix.h promises, in Windows' words, and the main function: it hands qwen.c its arguments
 * in UTF-8. Needs Windows 10 for colours; without them everything else works. */
#include "posix.h"
#undef main
#undef signal
#undef fflush
#undef read
#include <io.h>
#include <windows.h>
#include <shellapi.h>

static void (*handlers[32])(int);
static volatile LONG typing, cut;           // a line is being typed; Ctrl-C has ended it: see read

static HANDLE handle_of(int file) { return (HANDLE)_get_osfhandle(file); }

/* ---- Files --------------------------------------------------------------------------------- */

/* A path for Windows; valid until the next but one call. */
static const wchar_t *wide(const char *path) {
    static wchar_t buffers[2][32768];
    static int next;
    wchar_t *buffer = buffers[next++ % 2];
    if (!MultiByteToWideChar(CP_UTF8, 0, path, -1, buffer, 32768)) buffer[0] = 0;
    return buffer;
}

static int succeeds(BOOL done) {
    DWORD error = GetLastError();
    if (done) return 0;
    errno = error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND ? ENOENT
        : error == ERROR_FILE_EXISTS ? EEXIST : error == ERROR_DISK_FULL ? ENOSPC : EACCES;
    return -1;
}

static int describe(HANDLE handle, struct posix_stat *status) {
    BY_HANDLE_FILE_INFORMATION file;
    *status = (struct posix_stat){ .st_mode = S_IFCHR };
    if (GetFileType(handle) != FILE_TYPE_DISK) return 0;
    if (!GetFileInformationByHandle(handle, &file)) return succeeds(FALSE);
    status->st_dev = file.dwVolumeSerialNumber;
    status->st_ino = (uint64_t)file.nFileIndexHigh << 32 | file.nFileIndexLow;
    status->st_size = (int64_t)((uint64_t)file.nFileSizeHigh << 32 | file.nFileSizeLow);
    status->st_mode = file.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY ? S_IFDIR : S_IFREG;
    return 0;
}

/* Others may read, write and remove the file meanwhile, as under POSIX. Opens directories, too. */
static HANDLE open_handle(const char *path, DWORD access, DWORD how) {
    return CreateFileW(wide(path), access, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                       NULL, how, FILE_FLAG_BACKUP_SEMANTICS, NULL);
}

int posix_stat(const char *path, struct posix_stat *status) {
    HANDLE handle = open_handle(path, 0, OPEN_EXISTING);
    if (handle == INVALID_HANDLE_VALUE) return succeeds(FALSE);
    int result = describe(handle, status);
    CloseHandle(handle);
    return result;
}

int posix_fstat(int file, struct posix_stat *status) { return describe(handle_of(file), status); }

/* Opens a file for reading or, with O_CREAT, a new one for writing. */
int posix_open(const char *path, int flags, ...) {
    HANDLE handle = flags & O_CREAT ? open_handle(path, GENERIC_WRITE, CREATE_NEW)
        : open_handle(path, GENERIC_READ, OPEN_EXISTING);
    if (handle == INVALID_HANDLE_VALUE) return succeeds(FALSE);
    return _open_osfhandle((intptr_t)handle, O_BINARY);
}

int posix_rename(const char *from, const char *to) {
    return succeeds(MoveFileExW(wide(from), wide(to), MOVEFILE_REPLACE_EXISTING));
}

int posix_unlink(const char *path) { return succeeds(DeleteFileW(wide(path))); }

/* ---- The console --------------------------------------------------------------------------- */

int posix_isatty(int file) {
    DWORD mode;
    return GetConsoleMode(handle_of(file), &mode) != 0;
}

int ioctl(int file, int request, struct winsize *window) {
    CONSOLE_SCREEN_BUFFER_INFO screen;
    (void)request;
    if (!GetConsoleScreenBufferInfo(handle_of(file), &screen)) return -1;
    window->ws_col = (unsigned short)(screen.srWindow.Right - screen.srWindow.Left + 1);
    return 0;
}

/* How far something has been typed: the cursor's place. */
static COORD cursor(void) {
    CONSOLE_SCREEN_BUFFER_INFO screen = { .dwSize = { 0, 0 } };
    GetConsoleScreenBufferInfo(GetStdHandle(STD_ERROR_HANDLE), &screen);
    return screen.dwCursorPosition;
}

static COORD line_start;

ssize_t posix_read(int file, void *data, size_t n) {
    if (!posix_isatty(file)) return _read(file, data, (unsigned)n);
    static wchar_t line[1024];
    DWORD length = 0;
    size_t most = n / 3 < 1024 ? n / 3 : 1024;              // a character takes 3 bytes at most
    line_start = cursor();
    cut = 0;
    typing = 1;
    BOOL done = ReadConsoleW(handle_of(file), line, (DWORD)most, &length, NULL);
    if (done && length == 0) Sleep(50);                     // Ctrl-C: on_control runs beside this
    typing = 0;
    if (cut) {                                              // a byte for what had been typed
        memcpy(data, " \3", 2);
        return 2;
    }
    if (!done || length == 0 || line[0] == 26) return 0;    // Ctrl-Z is the end of the input
    for (DWORD i = length; i-- > 0; )
        if (line[i] == '\r') memmove(line + i, line + i + 1, (--length - i) * sizeof *line);
    return WideCharToMultiByte(CP_UTF8, 0, line, (int)length, data, (int)n, NULL, NULL);
}

/* A pipe whose reader has gone is EPIPE. */
int posix_fflush(FILE *stream) {
    int result = fflush(stream);
    DWORD error = _doserrno;
    if (ferror(stream) && (error == ERROR_BROKEN_PIPE || error == ERROR_NO_DATA
                           || error == ERROR_PIPE_NOT_CONNECTED)) errno = EPIPE;
    return result;
}

/* ---- Signals ------------------------------------------------------------------------------- */

void posix_signal(int number, void (*handler)(int)) { handlers[number] = handler; }

/* Ctrl-C and its like; Windows calls this in a thread of its own. */
static BOOL WINAPI on_control(DWORD event) {
    int number = event == CTRL_C_EVENT ? SIGINT : event == CTRL_BREAK_EVENT ? SIGTERM : SIGHUP;
    if (number == SIGINT && typing) {
        COORD now = cursor();
        cut = now.X != line_start.X || now.Y != line_start.Y;
        if (cut) return TRUE;               // else nothing has been typed: the program ends
    }
    if (!handlers[number]) return FALSE;
    handlers[number](number);
    return TRUE;
}

/* Memory that is touched for the first time, and a mapped file that cannot be read. */
static LONG CALLBACK on_exception(EXCEPTION_POINTERS *exception) {
    const EXCEPTION_RECORD *record = exception->ExceptionRecord;
    enum { STEP = 1 << 20 };
    MEMORY_BASIC_INFORMATION region;
    if (record->NumberParameters < 2) return EXCEPTION_CONTINUE_SEARCH;
    char *address = (char *)record->ExceptionInformation[1];
    if (record->ExceptionCode == EXCEPTION_IN_PAGE_ERROR && handlers[SIGBUS])
        handlers[SIGBUS](SIGBUS);
    if (record->ExceptionCode != EXCEPTION_ACCESS_VIOLATION || record->ExceptionInformation[0] > 1
        || !VirtualQuery(address, &region, sizeof region))
        return EXCEPTION_CONTINUE_SEARCH;
    if (region.State == MEM_COMMIT && region.Protect == PAGE_READWRITE)
        return EXCEPTION_CONTINUE_EXECUTION;                // another thread was faster
    if (region.State != MEM_RESERVE) return EXCEPTION_CONTINUE_SEARCH;
    size_t left = (size_t)((char *)region.BaseAddress + region.RegionSize - address);
    if (!VirtualAlloc(address, left < STEP ? left : STEP, MEM_COMMIT, PAGE_READWRITE))
        return EXCEPTION_CONTINUE_SEARCH;
    return EXCEPTION_CONTINUE_EXECUTION;
}

/* ---- Memory and processors ------------------------------------------------------------------- */

void *mmap(void *at, size_t size, int protection, int flags, int file, off_t begin) {
    (void)at; (void)protection; (void)flags; (void)begin;
    void *memory = NULL;
    if (file < 0) memory = VirtualAlloc(NULL, size, MEM_RESERVE, PAGE_READWRITE);
    HANDLE map = file < 0 ? NULL
        : CreateFileMappingW(handle_of(file), NULL, PAGE_READONLY, 0, 0, NULL);
    if (map) {
        memory = MapViewOfFile(map, FILE_MAP_READ, 0, 0, size);
        CloseHandle(map);                                   // the view keeps it
    }
    if (memory) return memory;
    errno = ENOMEM;
    return MAP_FAILED;
}

long sysconf(int name) {
    MEMORYSTATUSEX memory = { .dwLength = sizeof memory };
    if (name == _SC_PAGESIZE) return 4096;
    if (name == _SC_NPROCESSORS_ONLN) return (long)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
    return GlobalMemoryStatusEx(&memory) ? (long)(memory.ullTotalPhys / 4096) : -1;
}

/* ---- Main -------------------------------------------------------------------------------- */

int program_main(int argc, char **argv);

static UINT code_page;

static void restore_console(void) { SetConsoleOutputCP(code_page); }

int main(void) {
    int argc;
    wchar_t **wide_argv = CommandLineToArgvW(GetCommandLineW(), &argc);
    char **argv = calloc((size_t)argc + 1, sizeof *argv);
    for (int i = 0; i < argc; i++) {
        int size = WideCharToMultiByte(CP_UTF8, 0, wide_argv[i], -1, NULL, 0, NULL, NULL);
        argv[i] = malloc((size_t)size);
        WideCharToMultiByte(CP_UTF8, 0, wide_argv[i], -1, argv[i], size, NULL, NULL);
    }
    AddVectoredExceptionHandler(1, on_exception);
    SetConsoleCtrlHandler(on_control, TRUE);
    for (int i = 0; i < 3; i++) {
        DWORD mode;
        _setmode(i, _O_BINARY);
        if (i > 0 && GetConsoleMode(handle_of(i), &mode)
            && !SetConsoleMode(handle_of(i), mode | ENABLE_VIRTUAL_TERMINAL_PROCESSING))
            _putenv("TERM=dumb");                           // it would print escape sequences
    }
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    code_page = GetConsoleOutputCP();
    atexit(restore_console);
    SetConsoleOutputCP(CP_UTF8);
    return program_main(argc, argv);
}
