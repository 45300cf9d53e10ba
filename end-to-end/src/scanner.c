/* A virus scanner as an update meets it: opens every file that is new or has changed below a folder, and lets others read
 * it, but neither write, rename nor remove it for so many milliseconds; 0: for ever. It ends when it is killed.
 *
 *     scanner.exe FOLDER MILLISECONDS
 */
#define UNICODE
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>
#include <windows.h>

#define FILES 4096
#define LONGEST 1024

struct file {
    wchar_t path[LONGEST];
    FILETIME written;
    HANDLE held;
    ULONGLONG until;
};

static struct file *files;
static int count;
static ULONGLONG milliseconds;

/* What is there when it starts has been looked at. */
static int begun;

static void look_at(const wchar_t *path, const FILETIME *written)
{
    struct file *file = NULL;
    for (int number = 0; number < count && !file; number++)
        if (!wcscmp(files[number].path, path))
            file = &files[number];
    if (!file) {
        if (count == FILES)
            exit(1);
        file = &files[count++];
        wcscpy(file->path, path);
        file->held = INVALID_HANDLE_VALUE;
    } else if (!CompareFileTime(&file->written, written)) {
        return;
    }
    if (file->held == INVALID_HANDLE_VALUE && begun) {
        file->held = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
        file->until = milliseconds ? GetTickCount64() + milliseconds : ~0ULL;
        /* Somebody still writes it: it is looked at again. */
        if (file->held == INVALID_HANDLE_VALUE) {
            memset(&file->written, 0, sizeof file->written);
            return;
        }
        puts("holds");
        fflush(stdout);
    }
    file->written = *written;
}

static void scan(const wchar_t *folder)
{
    wchar_t path[LONGEST];
    WIN32_FIND_DATAW found;
    swprintf(path, LONGEST, L"%ls\\*", folder);
    HANDLE search = FindFirstFileW(path, &found);
    if (search == INVALID_HANDLE_VALUE)
        return;
    do {
        swprintf(path, LONGEST, L"%ls\\%ls", folder, found.cFileName);
        if (!(found.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY))
            look_at(path, &found.ftLastWriteTime);
        else if (wcscmp(found.cFileName, L".") && wcscmp(found.cFileName, L".."))
            scan(path);
    } while (FindNextFileW(search, &found));
    FindClose(search);
}

int wmain(int arguments, wchar_t **argument)
{
    if (arguments != 3)
        return 2;
    files = calloc(FILES, sizeof *files);
    milliseconds = (ULONGLONG)_wtoi64(argument[2]);
    for (;; Sleep(1)) {
        for (int number = 0; number < count; number++) {
            struct file *file = &files[number];
            if (file->held != INVALID_HANDLE_VALUE && GetTickCount64() >= file->until) {
                CloseHandle(file->held);
                file->held = INVALID_HANDLE_VALUE;
            }
        }
        scan(argument[1]);
        if (!begun) {
            begun = 1;
            puts("scans");
            fflush(stdout);
        }
    }
}
